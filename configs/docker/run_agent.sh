#!/bin/sh
# run-agent SETTINGS DATA: keeps the site agent running in a container, as a service manager does on a machine.
#
# PostgreSQL is a child of the agent and outlives it. A container ends with its first process, and the kernel then kills
# what is left in it: were that the agent, each crash of it would be one of the database. So it is started again here,
# after 0.1 s, and finds its PostgreSQL running. Told to stop, PostgreSQL is shut down clean once the agent has gone:
# it recovers nothing at its next start. `docker kill` ends all of it at once, as the loss of the machine would.
set -u
settings=$1
data=$2
agent=
stopping=

stop() {
    stopping=yes
    [ -z "$agent" ] || kill -TERM "$agent" 2>/dev/null
}
trap stop TERM INT

status=0
while [ -z "$stopping" ]; do
    python -m sitecontrol agent --config "$settings" &
    agent=$!
    [ -z "$stopping" ] || kill -TERM "$agent" 2>/dev/null
    wait "$agent"
    status=$?
    while kill -0 "$agent" 2>/dev/null; do # a signal ended the waiting, not the agent
        wait "$agent"
        status=$?
    done
    [ "$status" -ne 2 ] || break # the settings cannot work: the log says why
    [ -n "$stopping" ] || sleep 0.1
done

if [ -s "$data/postmaster.pid" ]; then
    pg_ctl stop --pgdata "$data" --mode fast --timeout 20 --silent ||
        pg_ctl stop --pgdata "$data" --mode immediate --timeout 5 --silent
fi
[ -n "$stopping" ] || exit "$status"
