#!/bin/sh
# The first program of a rented container: the rental's key, the host's key, sshd, and then to sleep.
# AD_PUBLIC_KEY: who gets in. AD_HOST_KEY: the host's private key, in base64.
set -u
umask 077
home=${HOME:-/root}
mkdir -p "$home/.ssh" /etc/ssh
printf '%s\n' "$AD_PUBLIC_KEY" >>"$home/.ssh/authorized_keys"
if ! command -v sshd >/dev/null && [ ! -x /usr/sbin/sshd ]; then
	(apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends openssh-server) || exit 1
fi
mkdir -p /run/sshd && chmod 755 /run/sshd
rm -f /etc/ssh/ssh_host_*
printf '%s' "$AD_HOST_KEY" | base64 -d >/etc/ssh/ssh_host_ed25519_key
ssh-keygen -y -f /etc/ssh/ssh_host_ed25519_key >/etc/ssh/ssh_host_ed25519_key.pub
unset AD_HOST_KEY
"$(command -v sshd || echo /usr/sbin/sshd)" -h /etc/ssh/ssh_host_ed25519_key || exit 1
exec sleep infinity
