"""A real nix with a store of the test's own, offline, and a flake that needs nothing of the world."""

from pathlib import Path

from tests.support.tools import need

CONF = "sandbox = false\nsubstituters =\nbuild-users-group =\n"
FLAKE = """\
{
  outputs = { self }: let
    make = attributes: derivation ({ system = "x86_64-linux"; builder = "/bin/sh"; } // attributes);
    hello = make {
      name = "hello-1";
      args = [ "-c" ''
        /bin/mkdir -p $out/bin
        printf '#!/bin/sh\\necho GREETING\\n' > $out/bin/hello
        /bin/chmod +x $out/bin/hello
      '' ];
    };
    # What nix develop asks of a shell: a builder that is bash, and a setup that names its outputs.
    stdenv = make {
      name = "stdenv";
      args = [ "-c" ''
        /bin/mkdir $out
        printf 'export PATH=/usr/bin:/bin outputs=''${outputs:-out}
        for i in $buildInputs; do PATH=$i/bin:$PATH; done' > $out/setup
      '' ];
    };
    bash = { name = "shell"; builder = "/bin/bash"; args = [ "-c" "echo" ]; inherit stdenv; };
    shell = attributes: make (bash // attributes);
  in {
    packages.x86_64-linux.default = hello;
    packages.x86_64-linux.broken = make { name = "broken"; args = [ "-c" "echo it cannot be built; exit 1" ]; };
    devShells.x86_64-linux.default = shell {
      buildInputs = [ hello ];
      VALUE = "it's \\"set\\"";
      shellHook = "echo welcome; export HOOKED=yes; cd /";
    };
    devShells.x86_64-linux.other = shell { VALUE = "other"; };
  };
}
"""


def flake(greeting: str = "hello from nix") -> str:
    """Return flake.nix: a package that greets, a development shell that has it, another shell, a broken package."""
    return FLAKE.replace("GREETING", greeting)


def nix_variables(folder: Path) -> dict[str, str]:
    """Return the variables of a nix whose store and state lie in a folder."""
    need("nix", "bash")
    (folder / "conf").mkdir(parents=True, exist_ok=True)
    (folder / "conf" / "nix.conf").write_text(CONF)
    names = {"NIX_CONF_DIR": "conf", "NIX_STORE_DIR": "store", "NIX_STATE_DIR": "state", "NIX_LOG_DIR": "log"}
    return {name: str(folder / part) for name, part in names.items()}
