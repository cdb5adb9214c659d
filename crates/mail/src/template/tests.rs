//! Templates: language, escaping by place, places of errors; properties over arbitrary input. Attacks are in `hostile`.

mod hostile;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn data() -> Value {
    json!({
        "first_name": "Ana", "company": "", "city": "Málaga & Ronda", "evil": "<b onclick=\"x\">'",
        "link": "https://shop.example/a?b=c&d=e", "script": "javascript:alert(1)", "email": "ana+x@acme.test",
        "custom": { "favourite_color": "blue", "items": ["a", "b", "c"], "n": 7, "price": "12.5", "mixed": [9, "1z", 10, "10", 2, 10] },
        "header": "a\r\nBcc: x@y.example",
    })
}

fn html(source: &str) -> String {
    Template::parse(source, Kind::Html).unwrap().render(&data(), Budget::default()).unwrap().text
}

fn text(source: &str) -> String {
    Template::parse(source, Kind::Text).unwrap().render(&data(), Budget::default()).unwrap().text
}

fn error(source: &str) -> String {
    Template::parse(source, Kind::Html).unwrap_err().to_string()
}

#[test]
fn names_paths_and_fallbacks() {
    for (source, expected) in [
        ("{{ first_name }} {{firstName}} {{ FirstName }}", "Ana Ana Ana"),
        ("{{ custom.favourite_color }} {{ custom.favouriteColor }}", "blue blue"),
        (
            "{{ custom[\"favourite_color\"] }} {{ custom.items[1] }} {{ custom.items[-1] }} {{ custom.items.first }}",
            "blue b c a",
        ),
        ("{{ lastName | default: \"there\" }} {{ company | default: 'nobody' }}", "there nobody"),
        (
            "{{lastName|there}} {{lastName|dear friend}} {{ lastName | \"x y\" }} {{firstName|there}}",
            "there dear friend x y Ana",
        ),
        ("[{{ missing }}] [{{ first_name.deeper }}]", "[] []"),
        ("a {{- first_name -}} b", "aAnab"),
        ("{% raw %}{{ x }}{% endraw %}{% comment %} {{ no }} {% endcomment %}", "{{ x }}"),
    ] {
        assert_eq!(text(source), expected, "{source}");
    }
}

#[test]
fn conditions_cases_and_loops() {
    for (source, expected) in [
        ("{% if company %}yes{% else %}no{% endif %}", "no"),
        ("{% if custom.n > 5 and first_name == \"Ana\" %}yes{% endif %}", "yes"),
        ("{% if custom.n < 5 or city contains 'Ronda' %}yes{% endif %}", "yes"),
        (
            "{% if custom.n == '7' %}yes{% endif %}{% if missing == nil %}!{% endif %}{% if company == blank %}?{% endif %}",
            "yes!?",
        ),
        ("{% if a %}1{% elsif first_name != 'Ana' %}2{% elsif custom.n >= 7 %}3{% else %}4{% endif %}", "3"),
        ("{% unless company %}none{% endunless %}", "none"),
        ("{% case first_name %}{% when 'Bo', 'Ana' %}hit{% when 'C' %}c{% else %}miss{% endcase %}", "hit"),
        ("{% case first_name %}{% when 'Bo' %}hit{% else %}miss{% endcase %}", "miss"),
        (
            "{% for i in custom.items %}{{ forloop.index }}{{ i }}{% unless forloop.last %},{% endunless %}{% endfor %}",
            "1a,2b,3c",
        ),
        ("{% for i in custom.items reversed limit: 2 %}{{ i }}{% endfor %}", "ba"),
        ("{% for i in custom.items offset: 1 %}{{ i }}{% endfor %}", "bc"),
        ("{% for i in missing %}x{% else %}none{% endfor %}", "none"),
        ("{% for i in custom.items %}{{ i }}{% else %}none{% endfor %}.", "abc."),
        (
            "{% for i in (1..5) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 4 %}{% break %}{% endif %}{{ i }}{% endfor %}.",
            "13.",
        ),
        ("{% for i in (1..5) reversed offset: 1 limit: 3 %}{{ i }}{% endfor %}", "432"),
        (
            "{% for pair in custom %}{% if forloop.last %}{{ pair[0] }}={{ pair.last }}{% endif %}{% endfor %}",
            "price=12.5",
        ),
        (
            "{% if custom.items contains 'b' and custom.items == custom.items and custom.items != missing %}yes{% endif %}",
            "yes",
        ),
        ("{% case custom.n %}{% when 1, nil or 7 %}hit{% endcase %}", "hit"),
        ("{{ custom.items[-9] }}{{ custom.items[-9223372036854775808] }}{{ custom.items[9] }}.", "."),
        ("{% for i in (1..2) %}{% for j in (1..2) %}{{ i }}{{ j }} {% endfor %}{% endfor %}", "11 12 21 22 "),
        ("{% assign who = first_name | upcase %}{{ who }}", "ANA"),
    ] {
        assert_eq!(text(source), expected, "{source}");
    }
}

#[test]
fn filters_do_what_liquid_does() {
    for (source, expected) in [
        ("{{ 'hello world' | capitalize }}", "Hello world"),
        ("{{ '  x ' | strip }}|{{ ' x ' | lstrip }}|{{ ' x ' | rstrip }}", "x|x | x"),
        ("{{ '<p>a</p>b' | strip_html }}", "ab"),
        ("{{ 'abcdefgh' | truncate: 5 }} {{ 'one two three' | truncatewords: 2 }}", "ab... one two..."),
        (
            "{{ 'a-b-c' | replace: '-', '+' }} {{ 'a-b-c' | replace_first: '-', '+' }} {{ 'a-b' | remove: '-' }}",
            "a+b+c a+b-c ab",
        ),
        ("{{ 'b' | append: 'c' | prepend: 'a' }}", "abc"),
        ("{{ 'a,b' | split: ',' | join: '; ' }} {{ 'a,b' | split: ',' | size }}", "a; b 2"),
        ("{{ custom.items | reverse | first }} {{ custom.items | last }}", "c c"),
        ("{{ 'c,a,b,a' | split: ',' | sort | uniq | join }}", "a b c"),
        ("{{ 'hello' | slice: 1, 3 }} {{ 'hello' | slice: -2, 2 }}", "ell lo"),
        ("{{ 'a b&c' | url_encode }}", "a%20b%26c"),
        (
            "{{ 7 | plus: 3 }} {{ 7 | minus: 3 }} {{ 7 | times: 2 }} {{ 7 | divided_by: 2 }} {{ 7 | divided_by: 2.0 }} {{ 7 | modulo: 4 }}",
            "10 4 14 3 3.5 3",
        ),
        (
            "{{ custom.price | plus: 1 }} {{ 1.25 | round: 1 }} {{ 1.2 | ceil }} {{ 1.8 | floor }} {{ -3 | abs }}",
            "13.5 1.3 2 1 3",
        ),
        ("{{ 1 | divided_by: 0 }}", ""),
        ("[{{ '  ' | strip }}{{ '' | split: ',' | first }}{{ 'ab' | slice: 5, 2 }}]", "[]"),
        ("{{ 'é1ü' | split: '' | reverse | join: '' }} {{ 'añb' | truncate: 2, '' }}", "ü1é añ"),
        ("{{ custom.mixed | sort | join: ',' }} {{ custom.mixed | uniq | size }}", "2,9,10,10,10,1z 5"),
        ("{{ (1..3) | join: '+' }}{{ (1..3) | last }} {{ (3..1) | size }}", "1+2+33 0"),
    ] {
        assert_eq!(text(source), expected, "{source}");
    }
}

#[test]
fn values_are_escaped_by_their_place() {
    for (source, expected) in [
        ("<p>{{ evil }}</p>", "<p>&lt;b onclick=&quot;x&quot;&gt;&#39;</p>"),
        ("<p title=\"{{ evil }}\">", "<p title=\"&lt;b onclick=&quot;x&quot;&gt;&#39;\">"),
        ("<p title={{ city }}>", "<p title=Málaga&#32;&#38;&#32;Ronda>"),
        ("<a href=\"{{ link }}\">", "<a href=\"https://shop.example/a?b=c&amp;d=e\">"),
        ("<a href=\"{{ script }}\">", "<a href=\"#\">"),
        ("<a href='java{{ script }}'>", "<a href='java'>"),
        ("<a href=\"https://x.example/?c={{ city }}\">", "<a href=\"https://x.example/?c=M%C3%A1laga%20%26%20Ronda\">"),
        ("<a href=\"mailto:{{ email }}\">", "<a href=\"mailto:ana%2Bx@acme.test\">"),
        ("<script>var x = \"{{ evil }}\"</script>{{ first_name }}", "<script>var x = \"\"</script>Ana"),
        ("<style>p{color:{{ custom.favourite_color }}}</style>", "<style>p{color:}</style>"),
        ("<p style=\"color:{{ custom.favourite_color }}\">", "<p style=\"color:\">"),
        ("<p onclick=\"f('{{ evil }}')\">", "<p onclick=\"f('')\">"),
        ("<!-- {{ evil }} --><p {{ evil }}>", "<!--  --><p >"),
        ("<title>{{ evil }}</title>", "<title>&lt;b onclick=&quot;x&quot;&gt;&#39;</title>"),
        ("a < b {{ evil }}", "a < b &lt;b onclick=&quot;x&quot;&gt;&#39;"),
    ] {
        assert_eq!(html(source), expected, "{source}");
    }
    let header = Template::parse("Hi {{ header }}", Kind::Header).unwrap();
    assert_eq!(header.render(&data(), Budget::default()).unwrap().text, "Hi a  Bcc: x@y.example");
}

#[test]
fn what_is_missing_or_left_out_is_a_warning() {
    let template = Template::parse(
        "{{ a.b }} {{ a.b }} {{ c | default: 1 }} {% if d %}{% endif %}<!--{{ first_name }}-->",
        Kind::Html,
    )
    .unwrap();
    let warnings = template.render(&data(), Budget::default()).unwrap().warnings;
    assert_eq!(warnings, ["`a.b` has no value", "a value inside a script, style, comment or tag was left out"]);
    assert!(template.uses("a") && !template.uses("z"));
}

#[test]
fn errors_say_where_what_and_how_to_mend() {
    for (source, expected) in [
        ("a\nb {{ }}", "line 2, column 3: `{{ }}` is empty (hint: write a name, e.g. {{ first_name }})"),
        ("{{ name", "line 1, column 1: `{{` is never closed (hint: write `}}`)"),
        ("{% if a %}", "line 1, column 1: `{% if %}` is never closed (hint: write `{% endif %}`)"),
        ("{% endif %}", "line 1, column 1: `{% endif %}` closes nothing (hint: there is no `{% if %}` before it)"),
        (
            "{% for x in y %}{% endif %}",
            "line 1, column 17: `{% endif %}` closes nothing (hint: `{% for %}` is open, close it first)",
        ),
        ("{{ a | upcaze: 1 }}", "line 1, column 8: there is no filter `upcaze` (hint: did you mean `upcase`?)"),
        ("{{ a | append }}", "line 1, column 14: filter `append` takes 1 to 1 arguments, found 0"),
        (
            "{% include 'x' %}",
            "line 1, column 1: there is no tag `include` (hint: if, unless, elsif, else, case, when, for, break, continue, assign, comment, raw)",
        ),
        ("{{ 'open }}", "line 1, column 4: the text that begins with ' is never closed"),
        (
            "{% else %}",
            "line 1, column 1: `{% else %}` stands alone (hint: it belongs into an open if, unless, case, for)",
        ),
        (
            "<p {% if a %}class=\"{% endif %}x\">",
            "line 1, column 21: `{% if %}` ends in another place of the HTML than it began (hint: open and close tags and quotes inside it)",
        ),
        ("{{ a b }}", "line 1, column 6: `b` is not expected here"),
        ("{% break %}", "line 1, column 1: `{% break %}` stands outside a loop"),
    ] {
        assert_eq!(error(source), expected, "{source}");
    }
    let subject = Template::parse("a\r\nb", Kind::Header).unwrap_err();
    assert_eq!((subject.line, subject.column), (1, 2));
}

proptest! {
    #[test]
    fn parsing_never_panics(source in "(\\{\\{|\\}\\}|\\{%|%\\}|if|for|in|case|when|end|raw|\\||:|'|\"|<|>|=|a|é| |-|\\(|\\)|\\.\\.|\\[|\\]|[0-9]|\n){0,60}") {
        for kind in [Kind::Html, Kind::Text, Kind::Header] {
            if let Ok(template) = Template::parse(&source, kind) {
                let _ = template.render(&data(), Budget::default());
            }
        }
    }

    #[test]
    fn no_value_opens_a_tag_or_ends_a_quote(value in any::<String>()) {
        let data = json!({ "v": value });
        let render = |source: &str| Template::parse(source, Kind::Html).unwrap().render(&data, Budget::default()).unwrap().text;
        let between = render("<p>{{ v }}</p>");
        prop_assert_eq!(between.matches('<').count(), 2);
        let quoted = render("<p title=\"{{ v }}\">");
        prop_assert_eq!(quoted.matches('"').count(), 2);
        let link = render("<a href='{{ v }}'>");
        prop_assert_eq!(link.matches('\'').count(), 2);
        prop_assert!(!link.to_lowercase().contains("javascript:"));
    }

    #[test]
    fn no_value_breaks_a_header(value in any::<String>()) {
        let template = Template::parse("Subject {{ v }}", Kind::Header).unwrap();
        let text = template.render(&json!({ "v": value }), Budget::default()).unwrap().text;
        prop_assert!(!text.chars().any(char::is_control));
    }
}
