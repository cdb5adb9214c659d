//! A name server that knows every domain but those below `gone.example`: enough for questions of a resolver.

use std::net::UdpSocket;

/// Answers for as long as the test lives; where it listens.
pub fn start() -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut question) {
            let _asker_gone = socket.send_to(&answer(&question[..length]), from);
        }
    });
    address
}

/// RFC 1035 4.1: the header, the question again, and one MX record or the code for a name that does not exist.
fn answer(question: &[u8]) -> Vec<u8> {
    let name_length = question[12..].iter().position(|byte| *byte == 0).unwrap() + 1;
    let asked = &question[12..12 + name_length + 4];
    let is_gone = asked.windows(4).any(|part| part.eq_ignore_ascii_case(b"gone"));
    let (code, answers) = if is_gone { (0x83, 0) } else { (0x80, 1) };
    let mut out = [&question[..2], &[0x81, code, 0, 1, 0, answers, 0, 0, 0, 0], asked].concat();
    if !is_gone {
        // A pointer to the name above; MX, IN, a minute, 4 bytes: preference 10 and the same name.
        out.extend([0xc0, 12, 0, 15, 0, 1, 0, 0, 0, 60, 0, 4, 0, 10, 0xc0, 12]);
    }
    out
}
