//! A private Postfix that takes mail for anybody into one maildir and sends nothing anywhere.
//!
//! A real receiver that was not written by us. Its folders, its master and its log are its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::bail;

use crate::machine::{as_root, run, step};
use crate::service::free_port;

/// The running instance; stopped when dropped.
pub(crate) struct Postfix {
    config: PathBuf,
    /// Where it listens.
    pub(crate) address: String,
    /// Where mail arrives.
    pub(crate) maildir: PathBuf,
}

/// Starts it.
pub(crate) fn start(folder: &Path) -> anyhow::Result<Postfix> {
    step("starting Postfix");
    let home = folder.join("postfix");
    let (config, data, mail) = (home.join("config"), home.join("data"), home.join("mail"));
    for part in [&config, &data, &mail, &home.join("queue")] {
        std::fs::create_dir_all(part)?;
    }
    let port = free_port()?;
    std::fs::write(config.join("main.cf"), main_cf(&home, id("-u")?, id("-g")?))?;
    std::fs::write(config.join("master.cf"), master_cf(port))?;
    run(as_root("chown").arg("postfix").args([&data, &mail]))?;
    let postfix = Postfix { config, address: format!("127.0.0.1:{port}"), maildir: mail.join("all") };
    run(postfix.command().arg("start"))?;
    for _ in 0..200 {
        if std::net::TcpStream::connect(&postfix.address).is_ok() {
            return Ok(postfix);
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let log = std::fs::read_to_string(home.join("maillog")).unwrap_or_default();
    bail!("Postfix is not ready:\n{log}")
}

impl Postfix {
    fn command(&self) -> Command {
        let mut command = as_root("postfix");
        command.arg("-c").arg(&self.config);
        command
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        if let Err(e) = run(self.command().arg("stop")) {
            eprintln!("xtask: Postfix was not stopped: {e:#}");
        }
    }
}

/// User or group id of `postfix`.
fn id(which: &str) -> anyhow::Result<String> {
    let output = Command::new("id").args([which, "postfix"]).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn main_cf(home: &Path, user: String, group: String) -> String {
    let home = home.display();
    format!(
        "compatibility_level = 3.6
queue_directory = {home}/queue
data_directory = {home}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
maillog_file = {home}/maillog
maillog_file_prefixes = {home}
mail_owner = postfix
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = postfix.test
mynetworks = 127.0.0.0/8
mydestination =
smtpd_recipient_restrictions = permit_mynetworks, reject
smtpd_relay_restrictions = permit_mynetworks, reject
smtputf8_enable = yes
# Anybody at any domain has one mailbox; nothing ever leaves.
virtual_mailbox_domains = static:all
virtual_mailbox_maps = static:all/
virtual_mailbox_base = {home}/mail
virtual_mailbox_limit = 0
virtual_minimum_uid = 1
virtual_uid_maps = static:{user}
virtual_gid_maps = static:{group}
virtual_transport = virtual
default_transport = error:no mail leaves this machine
alias_maps =
local_recipient_maps =
# A load of mail in a short time.
in_flow_delay = 0
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
default_process_limit = 60
virtual_destination_concurrency_limit = 8
qmgr_message_active_limit = 40000
qmgr_message_recipient_limit = 40000
"
    )
}

fn master_cf(port: u16) -> String {
    format!(
        "127.0.0.1:{port} inet n - n - - smtpd
pickup    unix  n - n 60 1 pickup
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
verify    unix  - - n - 1 verify
proxymap  unix  - - n - - proxymap
error     unix  - - n - - error
retry     unix  - - n - - error
discard   unix  - - n - - discard
virtual   unix  - n n - - virtual
anvil     unix  - - n - 1 anvil
postlog   unix-dgram n - n - 1 postlogd
"
    )
}
