#!/bin/sh
# Makes what the compose files mount as secrets: passwords, the operator's token, and a certificate for each place, by a
# certificate authority of this system alone. What is there already is kept: run it again after removing a file
# that shall be made anew. Needs openssl.
#
# usage: configs/docker/make_secrets.sh [FOLDER]     (secrets/, unless named)
#
# Run it once, on one machine; then each host gets the folder of its own place, FOLDER/<place>, and nothing else.
# FOLDER/ca/ca.key signs new certificates: keep it where no place can reach it. A file is readable by every user so that
# the containers' user can read what is mounted for it; on the host, the folder above is closed.
set -eu
folder=${1:-secrets}
umask 022
mkdir -p "$folder/ca" "$folder/columbus" "$folder/denver" "$folder/witness"
chmod 700 "$folder" "$folder/ca"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# shared NAME BYTES PLACE…: one random secret, the same in each of these places.
shared() {
    name=$1 bytes=$2
    shift 2
    value=
    for place; do
        [ ! -s "$folder/$place/$name" ] || value=$(cat "$folder/$place/$name")
    done
    [ -n "$value" ] || value=$(openssl rand -hex "$bytes")
    for place; do
        [ -s "$folder/$place/$name" ] || printf '%s\n' "$value" >"$folder/$place/$name"
    done
}

authority() {
    cat >"$scratch/ca.cnf" <<END
[req]
distinguished_name = dn
x509_extensions = ca
prompt = no
[dn]
CN = Hotsite
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
END
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -config "$scratch/ca.cnf" \
        -keyout "$folder/ca/ca.key" -out "$folder/ca/ca.pem"
    chmod 600 "$folder/ca/ca.key"
}

# certificate PLACE: for its etcd, its agent and its health daemon, and for its processes as clients of etcd.
certificate() {
    cat >"$scratch/place.cnf" <<END
[req]
distinguished_name = dn
prompt = no
[dn]
CN = $1
[place]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = DNS:$1, DNS:$1-etcd, DNS:$1-agent, DNS:$1-healthcheck, DNS:localhost
END
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -config "$scratch/place.cnf" \
        -keyout "$folder/$1/tls-key.pem" -out "$scratch/$1.csr"
    openssl x509 -req -in "$scratch/$1.csr" -CA "$folder/ca/ca.pem" -CAkey "$folder/ca/ca.key" -days 825 \
        -set_serial "0x$(openssl rand -hex 16)" -extfile "$scratch/place.cnf" -extensions place \
        -out "$folder/$1/tls-cert.pem"
    chmod 644 "$folder/$1/tls-key.pem"
}

[ -s "$folder/ca/ca.pem" ] || authority
for place in columbus denver witness; do
    cp "$folder/ca/ca.pem" "$folder/$place/tls-ca.pem"
    [ -s "$folder/$place/tls-cert.pem" ] || certificate "$place"
done
for name in postgres-replication postgres-rewind postgres-migrate postgres-dispatch operator-token; do
    shared "$name" 24 columbus denver
done
shared postgres-monitor 24 columbus denver witness
shared carrier-try 4 columbus denver witness # SMPP carries eight characters at most
chmod 700 "$folder/columbus" "$folder/denver" "$folder/witness"
echo "$folder: complete"
