# How inside.sh backs up and restores; sourced there.
backup_create() {
    (umask 077 && echo "correct horse battery staple" > /root/backup.pass)
    mkdir -p /root/backups
    sopgw backup create /root/backups --passphrase-file /root/backup.pass
}
backup_restore() {
    local file
    file=$(ls /root/backups/*.sopbackup | head -1)
    sopgw backup verify "$file" --passphrase-file /root/backup.pass \
        && sopgw backup restore "$file" --passphrase-file /root/backup.pass --confirm elm --allow /var/lib/sopgw
}
