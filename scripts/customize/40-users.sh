#!/bin/sh
# Makes users, and sets the keys with which they log in.
#
#   usage: ROOT=DIRECTORY WORK=DIRECTORY 40-users.sh
#
#   reads  WORK/users, WORK/keys/NAME; keys/root are root's, beside that which each VM gets
set -eu
# shellcheck source=scripts/customize/lib.sh
. "$(dirname "$0")/lib.sh"

# add_user NAME: with a home directory, and no password: the key is the only way in.
add_user() {
    if command -v useradd >/dev/null; then
        useradd --create-home --shell "$shell" "$1"
    elif command -v adduser >/dev/null; then
        adduser -D -s "$shell" "$1"
    else
        # An image so small that it has neither: what they would write (passwd(5), shadow(5)).
        number=1000
        while cut -d: -f3,4 /etc/passwd /etc/group | tr ':' '\n' | grep -qx "$number"; do
            number=$((number + 1))
        done
        printf '%s:x:%s:%s::/home/%s:%s\n' "$1" "$number" "$number" "$1" "$shell" >>/etc/passwd
        printf '%s:x:%s:\n' "$1" "$number" >>/etc/group
        [ ! -f /etc/shadow ] || printf '%s:*:19000:0:99999:7:::\n' "$1" >>/etc/shadow
        mkdir -p "/home/$1"
        chown "$number:$number" "/home/$1"
    fi
}

# field NAME NUMBER: of its line in /etc/passwd.
field() {
    awk -F: -v name="$1" -v field="$2" '$1 == name { print $field; exit }' /etc/passwd
}

shell=/bin/sh
[ ! -x /bin/bash ] || shell=/bin/bash
if [ -s "$WORK/users" ]; then
    while read -r name sudo; do
        if [ -z "$(field "$name" 3)" ]; then
            add_user "$name" </dev/null || fail "cannot make the user $name"
            say "user $name"
        fi
        if [ "$sudo" = sudo ]; then
            [ -d /etc/sudoers.d ] || fail "$name is to use sudo, and this image has none"
            printf '%s ALL=(ALL:ALL) NOPASSWD: ALL\n' "$name" >"/etc/sudoers.d/banger-$name"
            chmod 0440 "/etc/sudoers.d/banger-$name"
        fi
    done <"$WORK/users"
fi
for keys in "$WORK"/keys/*; do
    [ -s "$keys" ] || continue
    name=$(basename "$keys")
    home=$(field "$name" 6)
    [ -n "$home" ] || fail "there are keys for $name, and no such user"
    mkdir -p "$home/.ssh"
    file=$home/.ssh/authorized_keys
    touch "$file"
    # Again and again it comes to the same.
    while read -r key; do
        grep -qxF -e "$key" "$file" || printf '%s\n' "$key" >>"$file"
    done <"$keys"
    chmod 0700 "$home/.ssh"
    chmod 0600 "$file"
    chown "$(field "$name" 3):$(field "$name" 4)" "$home/.ssh" "$file"
done
