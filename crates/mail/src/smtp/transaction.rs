//! One mail transaction up to the dot, free of IO: which commands to write, and what the replies add up to.
//!
//! Not responsible for the gate, the body or time limits (`connection`). To add a parameter of MAIL: `mail_command`.

use super::{Capabilities, Delivery, Envelope, Reply, Stage};

/// What the replies to MAIL, RCPT and DATA mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All well: 354 has come.
    Ready,
    /// Refused; the connection can be used again after RSET.
    Refused(Stage, Reply),
    /// Refused, but DATA was accepted all the same: a lone dot ends it, nobody gets it (RFC 2920 3.1).
    LoneDot(Stage, Reply),
    /// The server has lost its way.
    Confused(Stage, &'static str),
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
    let go_ahead = data.code == 354;
    let refused = |stage, reply: Reply| {
        if go_ahead { Verdict::LoneDot(stage, reply) } else { Verdict::Refused(stage, reply) }
    };
    // 354 where 250 belongs: who knows what the server takes for the message then.
    if mail.code == 354 || rcpt.code == 354 {
        return Verdict::Confused(Stage::Mail, "354 before DATA");
    }
    if !mail.is_positive() {
        return refused(Stage::Mail, mail);
    }
    if !rcpt.is_positive() {
        return refused(Stage::Rcpt, rcpt);
    }
    match data.code {
        354 => Verdict::Ready,
        200..=399 => Verdict::Confused(Stage::Data, "DATA was not answered by 354"),
        _ => Verdict::Refused(Stage::Data, data),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(code: u16) -> Reply {
        Reply { code, enhanced: None, text: String::new() }
    }

    #[test]
    fn three_replies_add_up() {
        let verdict = |mail, rcpt, data| judge(reply(mail), reply(rcpt), reply(data));
        assert_eq!(verdict(250, 250, 354), Verdict::Ready);
        assert_eq!(verdict(250, 251, 354), Verdict::Ready);
        assert_eq!(verdict(250, 550, 554), Verdict::Refused(Stage::Rcpt, reply(550)));
        assert_eq!(verdict(250, 550, 354), Verdict::LoneDot(Stage::Rcpt, reply(550)), "fs31");
        assert_eq!(verdict(451, 503, 503), Verdict::Refused(Stage::Mail, reply(451)));
        assert_eq!(verdict(250, 250, 452), Verdict::Refused(Stage::Data, reply(452)));
        assert!(matches!(verdict(250, 250, 250), Verdict::Confused(Stage::Data, _)), "fs35");
        assert!(matches!(verdict(354, 250, 354), Verdict::Confused(..)), "fs35");
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
}
