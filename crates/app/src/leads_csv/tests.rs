//! Lists of leads: encodings, separators, line numbers, and every way for a row to be bad.

use std::path::PathBuf;

use super::*;

fn write(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("leads.csv");
    std::fs::write(&path, bytes).unwrap();
    (dir, path)
}

fn leads(bytes: &[u8]) -> Vec<NewLead> {
    let (_dir, path) = write(bytes);
    let list = check(Source::open(&path).unwrap(), false, &Problems::default()).unwrap();
    list.reader().unwrap().map(Result::unwrap).collect()
}

/// What is said of a list, without the directory.
fn said(bytes: &[u8], skip_bad_rows: bool) -> (Option<(u64, u64)>, String) {
    let (dir, path) = write(bytes);
    let problems = Problems::default();
    let list = problems.ok(Source::open(&path)).and_then(|source| check(source, skip_bad_rows, &problems));
    let text = problems.into_result().map_or_else(|errors| errors.to_string(), |()| String::new());
    (list.map(|list| (list.rows, list.skipped)), text.replace(&format!("{}/", dir.path().display()), ""))
}

fn utf16(text: &str, to_bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
    text.encode_utf16().flat_map(to_bytes).collect()
}

#[test]
fn encodings_and_separators_are_told_from_the_file() {
    let text = "E-Mail;First Name;Favourite Färbe\r\nana@acme.test;Lucía;grün\r\n";
    let marked = format!("\u{feff}{text}");
    for bytes in [
        text.as_bytes().to_vec(),
        marked.as_bytes().to_vec(),
        utf16(&marked, u16::to_le_bytes),
        utf16(&marked, u16::to_be_bytes),
        utf16(text, u16::to_le_bytes),
        utf16(text, u16::to_be_bytes),
        text.replace(';', "\t").into_bytes(),
        text.replace(';', ",").into_bytes(),
        format!("\r\n\r\n{text}").into_bytes(),
        text.replace("\r\n", "\r").into_bytes(),
    ] {
        let found = leads(&bytes);
        assert_eq!(found.len(), 1, "{bytes:?}");
        assert_eq!((found[0].email.as_str(), found[0].first_name.as_deref()), ("ana@acme.test", Some("Lucía")));
        assert_eq!(found[0].custom_fields["Favourite Färbe"], "grün");
    }
}

#[test]
fn every_column_of_ours_is_taken_and_empty_values_are_none() {
    let found = leads(
        b"email,name,first_name,last_name,company,job_title,phone,city,state,country,timezone,tracking_consent,x\n\
          Ana@Acme.test,Ana Gil,Ana,Gil,Acme,Boss,+34 1,Madrid,MD,ES,Europe/Madrid,no,\" a\nb \"\n\
          bo@acme.test,,,,,,,,,,,,\n,,,,,,,,,,,,\n",
    );
    assert_eq!(found.len(), 2);
    let ana = &found[0];
    assert_eq!((ana.email.as_str(), ana.tracking_consent), ("Ana@acme.test", Some(false)));
    assert_eq!((ana.timezone.as_deref(), ana.state.as_deref()), (Some("Europe/Madrid"), Some("MD")));
    assert_eq!(ana.custom_fields["x"], "a\nb");
    assert!(found[1].name.is_none() && found[1].custom_fields.is_empty() && found[1].tracking_consent.is_none());
}

#[test]
fn bad_rows_are_named_by_their_line_whatever_the_line_breaks() {
    let rows = "email,name,timezone,tracking_consent\n\nnobody,x,,\na@b.test,\"two\nlines\",,\nb@b.test,x\n\
                c@b.test,x,Europe/Nowhere,\nd@b.test,x,,maybe\nok@b.test,x,,\nOK@b.test,y,,";
    let expected = "\
error: leads.csv: 6 rows are bad of 7
  hint: mend them, or leave them out with --skip-bad-rows
error: leads.csv:3: `email`: address needs a local part, one `@` and a domain
error: leads.csv:4: `name`: value holds a control character
error: leads.csv:6: row and header row differ: 2 against 4 columns
  hint: a separator inside a value needs quotes around it
error: leads.csv:7: `timezone`: `Europe/Nowhere` is not a time zone
  hint: use an IANA name such as Europe/Madrid or UTC
error: leads.csv:8: `tracking_consent`: value is neither yes nor no
  hint: true, false, yes, no, 1 or 0
error: leads.csv:10: same address as on line 9
7 problems; nothing was done";
    for text in [rows.to_owned(), rows.replace('\n', "\r\n"), rows.replace('\n', "\r"), format!("{rows}\n")] {
        assert_eq!(said(text.as_bytes(), false), (None, expected.to_owned()), "{text:?}");
    }
    let (list, text) = said(rows.as_bytes(), true);
    assert_eq!((list, text), (Some((1, 6)), String::new()));
}

#[test]
fn many_bad_rows_are_counted_and_twenty_are_shown() {
    let rows = format!("email\n{}", "nobody\n".repeat(1000));
    let (_, text) = said(rows.as_bytes(), false);
    assert_eq!(text.matches("address needs").count(), SHOWN);
    assert!(text.contains("1000 rows are bad of 1000, the first 20 are shown"), "{text}");
}

#[test]
fn lists_that_are_none_are_refused_by_name() {
    let wide = format!("email,{}", (0..1000).map(|i| format!("c{i}")).collect::<Vec<_>>().join(","));
    let endless = format!("email,name\na@b.test,\"never closed\n{}", "x,y\n".repeat(500_000));
    for (bytes, what) in [
        (&b""[..], "no column `email`; file is empty"),
        (b"email\n", "list holds no leads"),
        (b"name,city\nx,y\n", "no column `email`; found `name`, `city`"),
        (b"ana@acme.test,Ana\n", "first row looks like a lead"),
        (b"email,name,Name\n", "columns 2 `name` and 3 `Name` mean the same"),
        (b"email,e-mail\n", "columns 1 `email` and 2 `e-mail` mean the same"),
        (b"email,shoe_size,shoeSize\n", "columns 2 `shoe_size` and 3 `shoeSize` mean the same"),
        (b"email,,x\n", "column 2 has no name"),
        (wide.as_bytes(), "1001 columns, at most 1000"),
        (b"email,name\na@b.test,Luc\xeda\n", "leads.csv:2: text is not UTF-8; it looks like Latin-1"),
        (b"email,stra\xdfe\n", "leads.csv:1: text is not UTF-8; it looks like Latin-1"),
        (b"PK\x03\x04rest", "a spreadsheet or ZIP file, not CSV"),
        (b"\xff\xfe\x00\x00e\0\0\0", "UTF-32"),
        (b"\xff\xfee\0m\0\x00\xd8", "not valid UTF-16"),
        (b"email,name\na@b.test,a\0b\n", "value holds a control character"),
        (endless.as_bytes(), "leads.csv:2: row is longer than 1 MiB"),
    ] {
        let (list, text) = said(bytes, false);
        assert!(list.is_none() && text.contains(what), "{what}: {text}");
    }
    let (list, text) = said(b"email\nnobody\n", true);
    assert!(list.is_none() && text.contains("list holds no leads"), "{text}");
}

#[test]
fn a_broken_row_hides_no_problem_behind_skipping() {
    let (list, text) = said(b"email,name\na@b.test,Luc\xeda\nb@b.test,x\n", true);
    assert!(list.is_none() && text.contains("Latin-1"), "{text}");
}

#[test]
fn skipped_rows_are_named_and_the_good_ones_read_again_and_again() {
    let (_dir, path) = write(b"email\na@b.test\nnobody\nA@b.test\nc@b.test\n");
    let list = check(Source::open(&path).unwrap(), true, &Problems::default()).unwrap();
    let lines: Vec<String> = list.skipped_rows.iter().map(ToString::to_string).collect();
    assert!(lines[0].contains("leads.csv:3: `email`") && lines[1].ends_with("leads.csv:4: same address as on line 2"));
    for _ in 0..2 {
        assert_eq!(list.reader().unwrap().filter_map(Result::ok).count(), 2);
    }
}

#[test]
fn what_cannot_be_read_twice_is_kept_without_a_name() {
    let dir = tempfile::tempdir().unwrap();
    let source = Source::keep("-", &b"email\na@b.test\na@b.test\n"[..], dir.path()).unwrap();
    let problems = Problems::default();
    assert!(check(source, false, &problems).is_none());
    assert!(problems.into_result().unwrap_err().to_string().contains("-:3: same address as on line 2"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
