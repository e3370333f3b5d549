#!/bin/sh
# The command line of the installed program: the service's configuration, and its user where root asks, so that no file
# of the service ever belongs to root.
set -eu
dir=/usr/lib/@NAME@
: "${@CONFIG_ENV@:=@CONFIG_FILE@}"
export @CONFIG_ENV@
command=${1:-}
set -- "$dir/@NAME@-node" "$dir/app/main.js" "$@"
if [ "$(id -u)" = 0 ]; then
  set -- setpriv --reuid @NAME@ --regid @NAME@ --init-groups -- "$@"
fi
if [ "$command" = enroll ] && [ "$(id -u)" = 0 ] && [ -d /run/systemd/system ]; then
  "$@"
  exec systemctl try-restart @NAME@.service
fi
exec "$@"
