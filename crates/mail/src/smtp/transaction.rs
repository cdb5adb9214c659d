//! One mail transaction up to the dot, free of IO: which commands to write, and what the replies add up to.
//!
//! Not responsible for the gate, the body or time limits (`connection`). To add a parameter of MAIL: `mail_command`.

use super::{Capabilities, Delivery, Envelope, Reply, Stage, Trouble};

/// What the replies to MAIL, RCPT and DATA mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All well: 354 has come.
    Ready,
    /// It ends here. After a refusal the connection can be used again, after a failure nothing more may be written.
    Ended(Delivery),
    /// Refused, but DATA was accepted all the same: a lone dot ends it, nobody gets it (RFC 2920 3.1).
    LoneDot(Delivery),
}

/// Whether a command that is answered by 2xx was accepted.
///
/// # Errors
/// `Refused`, or `Failed` where the answer is neither yes nor no.
pub(super) fn accepted(stage: Stage, reply: Reply) -> Result<(), Delivery> {
    match reply.code {
        200..=299 => Ok(()),
        400.. => Err(Delivery::Refused(stage, reply)),
        _ => Err(confused(stage, "3xx where 2xx belongs")),
    }
}

fn confused(stage: Stage, what: &'static str) -> Delivery {
    Delivery::Failed(stage, Trouble::Protocol(what))
}

/// What the reply to DATA means once MAIL and RCPT were accepted.
pub(super) fn judge_data(reply: Reply) -> Verdict {
    match reply.code {
        354 => Verdict::Ready,
        400.. => Verdict::Ended(Delivery::Refused(Stage::Data, reply)),
        _ => Verdict::Ended(confused(Stage::Data, "DATA was not answered by 354")),
    }
}

/// What we find out before a word is said; none where the message may go.
pub(super) fn local_refusal(capabilities: &Capabilities, envelope: &Envelope, message: &[u8]) -> Option<Delivery> {
    let refuse = |code, enhanced, text: &str| {
        Some(Delivery::Refused(Stage::Mail, Reply { code, enhanced: Some(enhanced), text: text.to_owned() }))
    };
    if envelope.needs_smtputf8 && !capabilities.smtputf8 {
        return refuse(553, (5, 6, 7), "the server takes no non-ASCII addresses (found before sending)");
    }
    if capabilities.size.is_some_and(|size| message.len() as u64 > size) {
        return refuse(552, (5, 3, 4), "the message is larger than the server takes (found before sending)");
    }
    if !message.is_ascii() && !envelope.needs_smtputf8 {
        return refuse(554, (5, 6, 3), "the message is not 7-bit (found before sending)");
    }
    None
}

pub(super) fn mail_command(capabilities: &Capabilities, envelope: &Envelope, size: usize) -> String {
    let mut command = format!("MAIL FROM:<{}>", envelope.from);
    if capabilities.size.is_some() {
        command.push_str(&format!(" SIZE={size}"));
    }
    if envelope.needs_smtputf8 {
        command.push_str(" SMTPUTF8");
    }
    command.push_str("\r\n");
    command
}

pub(super) fn rcpt_command(envelope: &Envelope) -> String {
    format!("RCPT TO:<{}>\r\n", envelope.to)
}

/// What the three replies to pipelined commands add up to.
pub(super) fn judge(mail: Reply, rcpt: Reply, data: Reply) -> Verdict {
    let recipient_taken = rcpt.is_positive();
    let go_ahead = data.code == 354;
    match accepted(Stage::Mail, mail).and_then(|()| accepted(Stage::Rcpt, rcpt)) {
        Ok(()) => judge_data(data),
        // A lone dot would send an empty message to that recipient.
        Err(Delivery::Refused(..)) if go_ahead && recipient_taken => {
            Verdict::Ended(confused(Stage::Mail, "RCPT and DATA were accepted after MAIL was refused"))
        }
        Err(refused @ Delivery::Refused(..)) if go_ahead => Verdict::LoneDot(refused),
        Err(ended) => Verdict::Ended(ended),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use domain::address::EmailAddress;

    use super::*;
    use crate::compose::ascii_address;
    use crate::smtp::fuzz;

    fn reply(code: u16) -> Reply {
        Reply { code, enhanced: None, text: String::new() }
    }

    #[test]
    fn three_replies_add_up() {
        let verdict = |mail, rcpt, data| judge(reply(mail), reply(rcpt), reply(data));
        let refused = |stage, code| Delivery::Refused(stage, reply(code));
        let lost = |verdict, stage| matches!(verdict, Verdict::Ended(Delivery::Failed(s, _)) if s == stage);
        assert_eq!(verdict(250, 250, 354), Verdict::Ready);
        assert_eq!(verdict(250, 251, 354), Verdict::Ready);
        assert_eq!(verdict(250, 550, 554), Verdict::Ended(refused(Stage::Rcpt, 550)));
        assert_eq!(verdict(250, 550, 354), Verdict::LoneDot(refused(Stage::Rcpt, 550)), "fs31");
        assert_eq!(verdict(550, 503, 354), Verdict::LoneDot(refused(Stage::Mail, 550)), "fs31");
        assert_eq!(verdict(451, 503, 503), Verdict::Ended(refused(Stage::Mail, 451)));
        assert_eq!(verdict(250, 250, 452), Verdict::Ended(refused(Stage::Data, 452)));
        assert!(lost(verdict(250, 250, 250), Stage::Data), "fs35");
        assert!(lost(verdict(354, 250, 354), Stage::Mail), "fs35");
        assert!(lost(verdict(250, 334, 354), Stage::Rcpt), "fs27");
        assert!(lost(verdict(550, 250, 354), Stage::Mail), "no empty message to anybody");
    }

    #[test]
    fn what_the_server_cannot_take_is_found_before() {
        let envelope = |needs_smtputf8| Envelope { from: "a@b.c".into(), to: "d@e.f".into(), needs_smtputf8 };
        let none = Capabilities::default();
        let code = |delivery: Option<Delivery>| match delivery {
            Some(Delivery::Refused(_, reply)) => reply.enhanced_text(),
            _ => None,
        };
        assert_eq!(code(local_refusal(&none, &envelope(true), b"x")).as_deref(), Some("5.6.7"), "fs29");
        let small = Capabilities { size: Some(2), ..none.clone() };
        assert_eq!(code(local_refusal(&small, &envelope(false), b"xyz")).as_deref(), Some("5.3.4"), "fs30");
        assert_eq!(code(local_refusal(&none, &envelope(false), "é".as_bytes())).as_deref(), Some("5.6.3"), "fs28");
        assert_eq!(local_refusal(&none, &envelope(false), b"xyz"), None);
        assert_eq!(mail_command(&small, &envelope(true), 7), "MAIL FROM:<a@b.c> SIZE=7 SMTPUTF8\r\n");
    }

    fn check_commands(bytes: &[u8]) -> bool {
        let Ok(address) = EmailAddress::parse(&String::from_utf8_lossy(bytes)) else { return false };
        let text = ascii_address(&address);
        let envelope = Envelope { from: text.clone(), to: text, needs_smtputf8: !address.is_ascii_local() };
        for capabilities in [Capabilities::default(), Capabilities { size: Some(1), ..Capabilities::default() }] {
            for command in [mail_command(&capabilities, &envelope, 1), rcpt_command(&envelope)] {
                let line = command.strip_suffix("\r\n").unwrap();
                assert!(!line.chars().any(char::is_control), "{line:?}");
                assert!(envelope.needs_smtputf8 || line.is_ascii(), "{line:?}");
            }
        }
        true
    }

    #[test]
    fn fuzz_addresses_stay_within_their_command() {
        const WORDS: &[&str] = &[
            "@",
            "a",
            ".",
            "\r\n",
            "\n",
            "\r",
            "\"",
            "\\",
            ">",
            "<",
            " ",
            "example.com",
            "@b.test",
            "-",
            "\0",
            "\u{e9}",
            "\u{2028}",
            "\u{85}",
            "xn--",
            "\u{3002}",
            "RCPT TO:<",
            "%",
            "!",
        ];
        static TAKEN: AtomicU64 = AtomicU64::new(0);
        let words: Vec<&[u8]> = WORDS.iter().map(|word| word.as_bytes()).collect();
        bolero::check!(name = "addresses").with_iterations(5_000).for_each(|input: &[u8]| {
            let spelt = input.chunks(3).map(|few| fuzz::spell(few, &words));
            let local = spelt.clone().map(|local| [&local[..], b"@b.test"].concat());
            for bytes in spelt.chain(local).chain([input.to_vec()]) {
                TAKEN.fetch_add(check_commands(&bytes).into(), Ordering::Relaxed);
            }
        });
        let taken = TAKEN.load(Ordering::Relaxed);
        assert!(taken > 100, "addresses that nobody takes try nothing: {taken}");
    }
}
