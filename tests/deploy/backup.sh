# How inside.sh backs up and restores; sourced there.
backup_create() {
    (umask 077 && echo "correct horse battery staple" > /srv/system-test/backup.pass)
    mkdir -p /srv/system-test/backups
    sopgw backup create /srv/system-test/backups --passphrase-file /srv/system-test/backup.pass
}
backup_restore() {
    local file
    file=$(ls /srv/system-test/backups/*.sopbackup | head -1)
    sopgw backup verify "$file" --passphrase-file /srv/system-test/backup.pass \
        && sopgw backup restore "$file" --passphrase-file /srv/system-test/backup.pass --confirm elm --allow /var/lib/sopgw
}
