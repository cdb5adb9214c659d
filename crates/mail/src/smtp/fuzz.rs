//! What fuzz targets share: random bytes that are spelt out as words of a protocol, and bytes cut into pieces.
//!
//! A target is a test whose name begins with `fuzz_`, beside what it tries; its corpus lies in `__fuzz__/NAME/corpus`
//! beside its file, and each of its files is tried first. `cargo test` tries a few thousand inputs more, `cargo xtask
//! fuzz --seconds N` as many as fit. To add one: such a test, some files, `bolero::check!`.

/// Each byte stands for a word: random bytes alone would hardly ever be a line of SMTP.
pub(super) fn spell(bytes: &[u8], words: &[&[u8]]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| words[usize::from(*byte) % words.len()]).copied().collect()
}

/// The bytes in pieces of lengths that `cuts` tells, again and again.
pub(super) fn pieces<'a>(bytes: &'a [u8], cuts: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let mut rest = bytes;
    for cut in cuts.iter().chain(&[255]).cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, behind) = rest.split_at(rest.len().min(usize::from(*cut) + 1));
        pieces.push(piece);
        rest = behind;
    }
    pieces
}
