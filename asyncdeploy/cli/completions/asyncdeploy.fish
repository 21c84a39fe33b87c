# asyncdeploy for fish: asyncdeploy completion fish | source
function __asyncdeploy_runs
    set -l state $XDG_STATE_HOME
    test -n "$state"; or set state ~/.local/state
    for each in $state/asyncdeploy/runs/*.json
        string replace -r '.*/(.*)[.]json' '$1' $each
    end
end
complete -c asyncdeploy -f
complete -c asyncdeploy -n __fish_use_subcommand -a demo -d 'the whole way once, on four nodes inside this process'
complete -c asyncdeploy -n __fish_use_subcommand -a init -d 'write a commented asyncdeploy.toml from what is found here'
complete -c asyncdeploy -n __fish_use_subcommand -a check -d 'this machine; with nodes, whether they can work together'
complete -c asyncdeploy -n __fish_use_subcommand -a plan -d 'what a deploy would do; nothing is changed'
complete -c asyncdeploy -n __fish_use_subcommand -a push -d 'send the project\'s files, only what changed'
complete -c asyncdeploy -n __fish_use_subcommand -a deploy -d 'push, and make the environment'
complete -c asyncdeploy -n __fish_use_subcommand -a run -d 'run a command on all nodes, attached: it ends with us'
complete -c asyncdeploy -n __fish_use_subcommand -a start -d 'deploy, and start a command on each node, detached'
complete -c asyncdeploy -n __fish_use_subcommand -a launch -d 'deploy, and train on all nodes together, detached'
complete -c asyncdeploy -n __fish_use_subcommand -a ps -d 'what runs and ran on the nodes'
complete -c asyncdeploy -n __fish_use_subcommand -a logs -d 'what it has printed; -f follows it and only looks'
complete -c asyncdeploy -n __fish_use_subcommand -a wait -d 'watch over it until it ends'
complete -c asyncdeploy -n __fish_use_subcommand -a stop -d 'end it everywhere'
complete -c asyncdeploy -n __fish_use_subcommand -a why -d 'why it failed, or where each rank stands while it runs'
complete -c asyncdeploy -n __fish_use_subcommand -a collect -d 'bring its results home'
complete -c asyncdeploy -n __fish_use_subcommand -a forward -d 'a port of a node as one of this machine'
complete -c asyncdeploy -n __fish_use_subcommand -a ssh -d 'a shell in the project\'s folder, inside its environment'
complete -c asyncdeploy -n __fish_use_subcommand -a clean -d 'take away what deployments left and nobody uses'
complete -c asyncdeploy -n __fish_use_subcommand -a offers -d 'who would rent such machines, and for how much'
complete -c asyncdeploy -n __fish_use_subcommand -a rent -d 'rent them until Ctrl-C, or all of their time'
complete -c asyncdeploy -n __fish_use_subcommand -a rentals -d 'what is rented now, and what it costs'
complete -c asyncdeploy -n __fish_use_subcommand -a give-back -d 'end a rental, from any machine'
complete -c asyncdeploy -n __fish_use_subcommand -a reap -d 'end what is over, and what died left behind'
complete -c asyncdeploy -n '__fish_seen_subcommand_from demo' -l hosts
complete -c asyncdeploy -n '__fish_seen_subcommand_from demo init check plan push deploy run start launch ps logs wait stop why collect forward ssh clean' -l accept-new
complete -c asyncdeploy -n '__fish_seen_subcommand_from demo' -l results -r -F
complete -c asyncdeploy -n '__fish_seen_subcommand_from demo init check plan push deploy run start launch ps logs wait stop why collect forward ssh clean offers rent rentals give-back reap' -l help
complete -c asyncdeploy -n '__fish_seen_subcommand_from init' -l force
complete -c asyncdeploy -n '__fish_seen_subcommand_from init check plan push deploy run start launch ps logs wait stop why collect forward ssh clean' -l nodes
complete -c asyncdeploy -n '__fish_seen_subcommand_from init check plan push deploy run start launch ps logs wait stop why collect forward ssh clean' -l hostfile -r -F
complete -c asyncdeploy -n '__fish_seen_subcommand_from init check plan push deploy run start launch ps logs wait stop why collect forward ssh clean' -l limit
complete -c asyncdeploy -n '__fish_seen_subcommand_from init check plan push deploy run start launch ps logs wait stop why collect forward ssh clean' -l exclude
complete -c asyncdeploy -n '__fish_seen_subcommand_from init check plan push deploy run start launch ps logs wait stop why collect forward ssh clean' -l key -r -F
complete -c asyncdeploy -n '__fish_seen_subcommand_from init check plan push deploy run start launch ps logs wait stop why collect forward ssh clean' -l jump
complete -c asyncdeploy -n '__fish_seen_subcommand_from init check plan push deploy run start launch ps logs wait stop why collect forward ssh clean' -l config -r -F
complete -c asyncdeploy -n '__fish_seen_subcommand_from init check plan push deploy run start launch ps logs wait stop why collect forward ssh clean offers rent rentals give-back reap' -l json
complete -c asyncdeploy -n '__fish_seen_subcommand_from init check plan push deploy run start launch ps logs wait stop why collect forward ssh clean offers rent rentals give-back reap' -l verbose
complete -c asyncdeploy -n '__fish_seen_subcommand_from init check plan push deploy run start launch ps logs wait stop why collect forward ssh clean offers rent rentals give-back reap' -l quiet
complete -c asyncdeploy -n '__fish_seen_subcommand_from init check plan push deploy run start launch ps logs wait stop why collect forward ssh clean offers rent rentals give-back reap' -l timeline -r -F
complete -c asyncdeploy -n '__fish_seen_subcommand_from check launch' -l nproc-per-node
complete -c asyncdeploy -n '__fish_seen_subcommand_from plan push deploy run start launch' -l path -r -F
complete -c asyncdeploy -n '__fish_seen_subcommand_from plan push deploy run start launch' -l env
complete -c asyncdeploy -n '__fish_seen_subcommand_from plan push deploy run start launch' -l extra
complete -c asyncdeploy -n '__fish_seen_subcommand_from plan push deploy run start launch offers rent' -l image
complete -c asyncdeploy -n '__fish_seen_subcommand_from push deploy launch clean' -l dry-run
complete -c asyncdeploy -n '__fish_seen_subcommand_from run' -l deploy
complete -c asyncdeploy -n '__fish_seen_subcommand_from run start' -l timeout
complete -c asyncdeploy -n '__fish_seen_subcommand_from run start' -l cwd
complete -c asyncdeploy -n '__fish_seen_subcommand_from run start launch' -l set
complete -c asyncdeploy -n '__fish_seen_subcommand_from run start launch' -l secret
complete -c asyncdeploy -n '__fish_seen_subcommand_from run start' -l stdin -r -F
complete -c asyncdeploy -n '__fish_seen_subcommand_from run start' -l at-once
complete -c asyncdeploy -n '__fish_seen_subcommand_from run start' -l bare
complete -c asyncdeploy -n '__fish_seen_subcommand_from start launch' -l name
complete -c asyncdeploy -n '__fish_seen_subcommand_from launch rent' -l detach
complete -c asyncdeploy -n '__fish_seen_subcommand_from launch' -l launcher
complete -c asyncdeploy -n '__fish_seen_subcommand_from launch' -l restarts
complete -c asyncdeploy -n '__fish_seen_subcommand_from launch' -l spares
complete -c asyncdeploy -n '__fish_seen_subcommand_from launch stop' -l grace
complete -c asyncdeploy -n '__fish_seen_subcommand_from logs' -l follow
complete -c asyncdeploy -n '__fish_seen_subcommand_from logs' -l tail
complete -c asyncdeploy -n '__fish_seen_subcommand_from logs' -l since
complete -c asyncdeploy -n '__fish_seen_subcommand_from logs' -l rank
complete -c asyncdeploy -n '__fish_seen_subcommand_from collect' -l source
complete -c asyncdeploy -n '__fish_seen_subcommand_from collect' -l to -r -F
complete -c asyncdeploy -n '__fish_seen_subcommand_from collect' -l logs
complete -c asyncdeploy -n '__fish_seen_subcommand_from collect' -l partial
complete -c asyncdeploy -n '__fish_seen_subcommand_from collect' -l every
complete -c asyncdeploy -n '__fish_seen_subcommand_from collect' -l include
complete -c asyncdeploy -n '__fish_seen_subcommand_from collect' -l without
complete -c asyncdeploy -n '__fish_seen_subcommand_from forward' -l local-port
complete -c asyncdeploy -n '__fish_seen_subcommand_from ssh' -l print
complete -c asyncdeploy -n '__fish_seen_subcommand_from ssh' -l ssh-config
complete -c asyncdeploy -n '__fish_seen_subcommand_from clean' -l older-than
complete -c asyncdeploy -n '__fish_seen_subcommand_from offers rent' -l usd-per-hour
complete -c asyncdeploy -n '__fish_seen_subcommand_from offers rent' -l gpus
complete -c asyncdeploy -n '__fish_seen_subcommand_from offers rent' -l num-nodes
complete -c asyncdeploy -n '__fish_seen_subcommand_from offers rent' -l for
complete -c asyncdeploy -n '__fish_seen_subcommand_from offers rent' -l disk-gb
complete -c asyncdeploy -n '__fish_seen_subcommand_from offers rent' -l region
complete -c asyncdeploy -n '__fish_seen_subcommand_from offers rent' -l apart
complete -c asyncdeploy -n '__fish_seen_subcommand_from offers rent rentals give-back reap' -l provider
complete -c asyncdeploy -n '__fish_seen_subcommand_from offers rent rentals give-back reap' -l owner
complete -c asyncdeploy -n '__fish_seen_subcommand_from offers rent rentals give-back reap' -l give-up
complete -c asyncdeploy -n '__fish_seen_subcommand_from rent' -l boot
complete -c asyncdeploy -n '__fish_seen_subcommand_from ps logs wait stop why collect forward ssh' -a 'last (__asyncdeploy_runs)'
complete -c asyncdeploy -n '__fish_seen_subcommand_from completion' -a 'bash zsh fish'
