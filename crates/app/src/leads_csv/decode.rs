//! From the bytes of a list to UTF-8, with bounds and with the numbers of its lines.
//!
//! Tells UTF-8 and UTF-16 by their marks, UTF-16 without one by its zero bytes, and refuses by name what is no text.
//! Not responsible for text that claims to be UTF-8 and is not: the row that holds it is known only later (`row`).
//! To add an encoding: a case in `Decoded::new`; a kind of file to refuse: a line in `NOT_TEXT`.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, Read};

use encoding_rs::{Decoder, DecoderResult, Encoding, UTF_16BE, UTF_16LE};

use crate::problem::Problem;

/// Most bytes of a row.
const MAX_ROW: u64 = 1 << 20;

/// First bytes of files that people take for CSV.
const NOT_TEXT: &[(&[u8], &str)] = &[
    (b"PK\x03\x04", "a spreadsheet or ZIP file"),
    (b"\xd0\xcf\x11\xe0", "a spreadsheet of an old Excel"),
    (b"\x1f\x8b", "a gzip file"),
    (b"%PDF", "a PDF file"),
    (b"\xff\xfe\x00\x00", "UTF-32 text"),
    (b"\x00\x00\xfe\xff", "UTF-32 text"),
];

#[derive(Debug, thiserror::Error)]
#[error("row is too long")]
struct TooLong;

/// Whether a read ended because a row was longer than its bound.
pub(super) fn is_too_long(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<TooLong>())
}

/// The text of a list as UTF-8.
pub(super) struct Decoded<R> {
    source: BufReader<R>,
    decoder: Option<Decoder>,
    /// The first line, which was read to tell the separator, until it is read again.
    head: io::Cursor<Vec<u8>>,
    /// Bytes handed out.
    passed: u64,
    was_return: bool,
    /// Bytes handed out since the last row was complete.
    in_row: Cell<u64>,
    lines: RefCell<Lines>,
}

/// Line breaks that were handed out: those before the last row as a count, those behind it by their offsets.
#[derive(Default)]
struct Lines {
    before: u64,
    ahead: VecDeque<u64>,
}

impl<R: Read> Decoded<R> {
    /// Tells the encoding, and returns the first line beside the whole text.
    pub(super) fn new(source: R) -> Result<(Self, Vec<u8>), Problem> {
        let mut source = BufReader::new(source);
        let unreadable = |error: io::Error| Problem::new(format!("failed to read: {error}"));
        let start = source.fill_buf().map_err(unreadable)?;
        if let Some((_, what)) = NOT_TEXT.iter().find(|(bytes, _)| start.starts_with(bytes)) {
            return Err(Problem::new(format!("file is {what}, not CSV (hint: save it as CSV UTF-8)")));
        }
        let (decoder, mark) = encoding(start);
        source.consume(mark);
        let mut decoded = Self {
            source,
            decoder: decoder.map(Encoding::new_decoder_without_bom_handling),
            head: io::Cursor::default(),
            passed: 0,
            was_return: false,
            in_row: Cell::new(0),
            lines: RefCell::default(),
        };
        let head = decoded.first_line().map_err(unreadable)?;
        decoded.head = io::Cursor::new(head.clone());
        Ok((decoded, head))
    }

    /// A line with text in it, and the blank ones before it. What was read beyond it belongs to the head as well.
    fn first_line(&mut self) -> io::Result<Vec<u8>> {
        let mut head = Vec::new();
        let mut block = [0; 4096];
        while head.len() as u64 <= MAX_ROW {
            let read = self.pull(&mut block)?;
            head.extend_from_slice(&block[..read]);
            let text_at = head.iter().position(|byte| !byte.is_ascii_whitespace());
            if read == 0 || text_at.is_some_and(|at| head[at..].contains(&b'\n') || head[at..].contains(&b'\r')) {
                break;
            }
        }
        Ok(head)
    }

    fn pull(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let Some(decoder) = &mut self.decoder else { return self.source.read(out) };
        loop {
            let raw = self.source.fill_buf()?;
            let is_last = raw.is_empty();
            let (result, read, written) = decoder.decode_to_utf8_without_replacement(raw, out, is_last);
            self.source.consume(read);
            match result {
                DecoderResult::Malformed(..) => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "text is not valid UTF-16"));
                }
                DecoderResult::InputEmpty if written == 0 && !is_last => {}
                DecoderResult::InputEmpty | DecoderResult::OutputFull => return Ok(written),
            }
        }
    }

    fn note_lines(&mut self, bytes: &[u8]) {
        let lines = self.lines.get_mut();
        for (at, byte) in (self.passed..).zip(bytes) {
            // CR LF is one break, and so is either alone; the parser ends a row at its first byte.
            if *byte == b'\r' || (*byte == b'\n' && !self.was_return) {
                lines.ahead.push_back(at);
            }
            self.was_return = *byte == b'\r';
        }
        self.passed += bytes.len() as u64;
    }
}

impl<R> Decoded<R> {
    /// A row is complete: the next one has its own bound.
    pub(super) fn row_done(&self) {
        self.in_row.set(0);
    }

    /// The line of the last byte of the row that ends right before byte `end`. Must be asked in the order of the file.
    pub(super) fn last_line(&self, end: u64) -> u64 {
        let mut lines = self.lines.borrow_mut();
        while lines.ahead.front().is_some_and(|at| at + 1 < end) {
            lines.ahead.pop_front();
            lines.before += 1;
        }
        lines.before + 1
    }
}

impl<R: Read> Read for Decoded<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.in_row.get() > MAX_ROW {
            return Err(io::Error::other(TooLong));
        }
        let read = match self.head.read(out)? {
            0 => self.pull(out)?,
            read => read,
        };
        self.note_lines(&out[..read]);
        self.in_row.set(self.in_row.get() + read as u64);
        Ok(read)
    }
}

/// The encoding, none for UTF-8, and the length of the mark that says so.
fn encoding(start: &[u8]) -> (Option<&'static Encoding>, usize) {
    match start {
        [0xef, 0xbb, 0xbf, ..] => (None, 3),
        [0xff, 0xfe, ..] => (Some(UTF_16LE), 2),
        [0xfe, 0xff, ..] => (Some(UTF_16BE), 2),
        // A header row begins with ASCII: every second byte is zero.
        [a, 0, b, 0, ..] if *a > 0 && *b > 0 => (Some(UTF_16LE), 0),
        [0, a, 0, b, ..] if *a > 0 && *b > 0 => (Some(UTF_16BE), 0),
        _ => (None, 0),
    }
}
