//! Templates that want to take a process down: each is refused by its budget before the work is done, or at parsing.

use proptest::prelude::*;
use serde_json::json;

use super::super::filters::{Filter, NAMES, apply};
use super::super::meter::Meter;
use super::super::render::Machine;
use super::super::value;
use super::*;

const STEPS: RenderError = RenderError::Steps(1_000_000);
const OUTPUT: RenderError = RenderError::Output(2 << 20);
const VALUES: RenderError = RenderError::Values(16 << 20);

/// A lead as large as a database takes it.
fn huge() -> Value {
    json!({
        "x": "a".repeat(4 << 20), "spaces": " ".repeat(4 << 20), "list": (0..200_000).collect::<Vec<_>>(),
        "words": vec!["word"; 100_000], "wide": (0..100_000).map(|n| (format!("key_{n}"), json!(n))).collect::<serde_json::Map<_, _>>(),
        "nested": vec![vec!["a"; 1000]; 1000], "one": 1, "url": format!("https://x.example/{}", "a".repeat(4 << 20)),
    })
}

fn refusal(source: &str, data: &Value, budget: Budget) -> Option<RenderError> {
    Template::parse(source, Kind::Html).unwrap().render(data, budget).err()
}

/// Repeats a body a hundred million times, were it let.
fn repeated(body: &str) -> String {
    format!("{{% for i in (1..10000) %}}{{% for j in (1..10000) %}}{body}{{% endfor %}}{{% endfor %}}")
}

#[test]
fn what_multiplies_is_refused_before_it_is_made() {
    let data = huge();
    for (source, refused) in [
        ("{{ x | replace: 'a', x }}", VALUES),
        ("{{ x | append: x | append: x | append: x | append: x | append: x }}", VALUES),
        ("{{ x | split: '' }}", VALUES),
        ("{{ x | split: 'a' | join: x }}", VALUES),
        ("{{ list | join: x }}", VALUES),
        ("{{ words | join: x | size }}", VALUES),
        ("{{ x | upcase | upcase | upcase }}", VALUES),
        ("{{ x | url_encode | url_encode | url_encode }}", VALUES),
        ("{{ list | sort }}", VALUES),
        ("{{ list | uniq | size }}", VALUES),
        ("{{ list | reverse | reverse | first }}", VALUES),
        ("{{ nested | uniq | size }}", VALUES),
        ("{% for pair in wide %}{% endfor %}", VALUES),
        ("{{ words }}{{ words }}{{ words }}{{ words }}{{ words }}{{ words }}", OUTPUT),
        ("{{ x }}", OUTPUT),
        ("<a href=\"{{ url }}\">", OUTPUT),
    ] {
        assert_eq!(refusal(source, &data, Budget::default()), Some(refused), "{source}");
    }
    let doubled = format!("{{% assign y = 'aaaaaaaaaaaaaaaa' %}}{}", "{% assign y = y | append: y %}".repeat(40));
    assert_eq!(refusal(&doubled, &data, Budget::default()), Some(VALUES));
    let squared = format!("{{{{ x | replace: 'a', 'b'{} }}}}", " | replace: 'b', 'bbbbbbbb'".repeat(30));
    assert_eq!(refusal(&squared, &json!({ "x": "a" }), Budget::default()), Some(VALUES));
}

#[test]
fn what_is_repeated_pays_for_every_byte_and_item() {
    let data = huge();
    let budget = Budget { steps: 100_000, output: 1 << 20, values: 1 << 20 };
    let (steps, values) = (RenderError::Steps(budget.steps), RenderError::Values(budget.values));
    for (body, refused) in [
        ("x", steps),
        ("{{ missing }}", steps),
        ("{% if x contains 'ab' %}{% endif %}", steps),
        ("{% if x == url %}{% endif %}", steps),
        ("{% if list contains 'z' %}{% endif %}", steps),
        ("{% if nested == nested %}{% endif %}", steps),
        ("{% if spaces == blank %}{% endif %}", steps),
        ("{% if nested < 1 %}{% endif %}", steps),
        ("{% case x %}{% when 1, url, 2 %}{% endcase %}", steps),
        ("{{ wide.none }}", steps),
        ("{% if wide[x] %}{% endif %}", steps),
        ("{% assign y = x %}", steps),
        ("{% assign y = spaces | strip %}", steps),
        ("{% assign y = spaces | default: 1 %}", steps),
        ("{% assign y = spaces | plus: 1 %}", steps),
        ("{% assign y = x | size %}", steps),
        ("{% assign y = x | slice: 4000000, 1 %}", steps),
        ("{% assign y = x | truncate: 5 %}", steps),
        ("{% assign y = x | truncatewords: 5 %}", steps),
        ("{% assign y = x | replace: 'b', '' %}", steps),
        ("{% assign y = 'a' | truncate: 1, x %}", steps),
        ("{% assign y = words | uniq %}", values),
        ("{% assign y = nested | join: '' %}", steps),
        ("{% assign y = x | strip_html %}", values),
        ("<!-- {{ x }} -->", steps),
        ("<a href=\"{{ spaces }}\">", steps),
    ] {
        assert_eq!(refusal(&repeated(body), &data, budget), Some(refused), "{body}");
    }
    let looped = "{% for i in (1..10000) %}".repeat(64) + &"{% endfor %}".repeat(64);
    assert_eq!(refusal(&looped, &data, budget), Some(steps));
    let defaults = format!("{{{{ missing{} }}}}", " | default: spaces".repeat(40));
    assert_eq!(refusal(&repeated(&defaults), &data, budget), Some(steps));
}

#[test]
fn a_budget_is_named_by_its_error() {
    for (error, shown) in [
        (STEPS, "template takes more than 1000000 steps (hint: loop over fewer items)"),
        (OUTPUT, "template makes more than 2097152 bytes (hint: loop over fewer items)"),
        (
            VALUES,
            "template's filters make more than 16777216 bytes of values (hint: use them on shorter values, or fewer)",
        ),
    ] {
        assert_eq!(error.to_string(), shown);
    }
}

#[test]
fn honest_mails_stay_far_below_their_budget() {
    let items: Vec<_> = (0..1000).map(|n| json!({ "name": format!("Item {n}"), "price": "12.50" })).collect();
    let data = json!({ "first_name": "Ana", "custom": { "items": items, "story": "word ".repeat(20_000) } });
    let source = "{{ custom.story | strip_html | truncatewords: 1000 | upcase }}{% for item in custom.items %}\
        {{ item.name | append: ' for ' | append: first_name | capitalize }} {{ item.price | times: 2 | round: 2 }}\
        {% if item.name contains '99' %}!{% endif %}{% endfor %}";
    let budget = Budget { steps: 100_000, output: 200_000, values: 1 << 20 };
    let made = Template::parse(source, Kind::Html).unwrap().render(&data, budget).unwrap().text;
    assert!(made.ends_with("Item 999 for Ana 25!") && made.len() > 20_000, "{}", &made[made.len() - 40..]);
    // The largest source renders.
    let largest = "x".repeat(MAX_SOURCE - 20) + "{{ first_name }}";
    assert!(refusal(&largest, &data, Budget::default()).is_none());
    assert!(Template::parse(&"x".repeat(MAX_SOURCE + 1), Kind::Text).is_err());
}

#[test]
fn depth_is_refused_at_parsing() {
    let many = |open: &str, close: &str| [open.repeat(100_000), close.repeat(100_000)].concat();
    for (source, refused) in [
        (many("{% if a %}", ""), "more than 50000 outputs"),
        ("{% if a %}".repeat(20_000), "more than 64 tags stand within each other"),
        (format!("{{{{ {} }}}}", many("(", ")")), "more than 64 values stand within each other"),
        (format!("{{{{ {}a }}}}", many("(1..", "")), "more than 64 values stand within each other"),
        (format!("{{{{ {}a{} }}}}", "a[".repeat(100_000), "]".repeat(100_000)), "more than 64 values"),
        (format!("{{% assign y = {} %}}", many("a[(", ")]")), "more than 64 values"),
        (format!("{{% if a{} %}}{{% endif %}}", " or a".repeat(100_000)), "more than 200 operators"),
        (format!("{{% if a{} %}}{{% endif %}}", " == a and a".repeat(80_000)), "more than 200 operators"),
        (format!("{{% case a %}}{{% when 1{} %}}{{% endcase %}}", ",1".repeat(100_000)), "more than 50000 outputs"),
        (format!("{{{{ a{} }}}}", ".a".repeat(100_000)), "more than 50000 outputs"),
        (format!("{{{{ a{} }}}}", "|a".repeat(100_000)), "more than 50000 outputs"),
        ("{{a}}".repeat(100_000), "more than 50000 outputs"),
        (format!("{{{{ {} }}}}", "a".repeat(300)), "a name is longer than 255 bytes"),
    ] {
        let found = error(&source);
        assert!(found.contains(refused) && found.len() < 300, "{:.40}: {found:.300}", source);
    }
    let deep = format!("{}x{}", "{% if a == nil %}".repeat(64), "{% endif %}".repeat(64));
    assert_eq!(text(&deep), "x");
    let wide = format!("{{% if a{} or first_name %}}x{{% endif %}}", " or a".repeat(199));
    assert_eq!(text(&wide), "x");
    let choices = format!("{{% case 7 %}}{{% when 1{} %}}x{{% endcase %}}", ", 7".repeat(40_000));
    assert_eq!(text(&choices), "x");
}

/// Sources that were once read again for every one of their pieces: minutes, where all is read once.
#[test]
fn the_largest_sources_are_read_once() {
    let fill = |part: &str| part.repeat((MAX_SOURCE - 100) / part.len());
    for (source, made) in [
        (format!("{{{{ {} }}}}", fill("''")), None),
        (format!("{{{{ \"{}\" | size }}}}", fill("'")), Some(7)),
        (fill("{ "), Some(MAX_SOURCE / 2 * 2 - 100)),
        (fill("<title></title>"), Some((MAX_SOURCE - 100) / 15 * 15)),
        (format!("<title>{}</title>", fill("</titl")), Some((MAX_SOURCE - 100) / 6 * 6 + 15)),
        (format!("{{% raw %}}{}%}}{{% endraw %}}", fill("{%")), Some(MAX_SOURCE - 100 + 2)),
        (format!("{{% raw %}}{}{}%}}{{% endraw %}}", "{%".repeat(200_000), "-".repeat(500_000)), Some(900_002)),
        (format!("<{}{}>", "a".repeat(500_000), "{% if a %}{% endif %}".repeat(15_000)), Some(500_002)),
        (format!("<p title=\"{}\">", "{{ a }}".repeat(24_000)), Some(12)),
        (format!("<a href=\"/{}\">", "{{ a }}".repeat(24_000)), Some(12)),
        (format!("{{% case '{}' %}}{}{{% endcase %}}", "a".repeat(400_000), "{% when 1 %}".repeat(20_000)), Some(0)),
    ] {
        let template = Template::parse(&source, Kind::Html);
        let length = template.map(|t| t.render(&data(), Budget::default()).unwrap().text.len()).ok();
        assert_eq!(length, made, "{source:.40}");
    }
}

#[test]
fn warnings_stay_few_and_short() {
    let names: String = (0..10_000).map(|n| format!("{{{{ name{n}{} }}}}", ".a".repeat(40))).take(1000).collect();
    let warnings = Template::parse(&names, Kind::Text).unwrap().render(&data(), Budget::default()).unwrap().warnings;
    assert_eq!(warnings.len(), 100);
    assert!(warnings.iter().all(|warning| warning.len() < 100));
}

/// Bytes of memory that a made value holds, counted anew. Views of the data hold none.
fn held(value: &value::Value<'_>) -> usize {
    match value {
        value::Value::Made(text) => text.len(),
        value::Value::List(items) => {
            items.len() * size_of::<value::Value<'_>>() + items.iter().map(held).sum::<usize>()
        }
        _ => 0,
    }
}

/// Letters that grow in capitals, when they are encoded, or when they are written as JSON.
const TEXT: &str = "[a,b ΐßİ<>&é\u{1}\n\"]{0,12}";

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        TEXT.prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-5i64..50).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
    ];
    leaf.prop_recursive(2, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("[a-c_]{1,3}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Sources that mostly parse: a few tags around outputs whose names are in the data.
fn source() -> impl Strategy<Value = String> {
    let name =
        prop_oneof![Just("x"), Just("y"), Just("l"), Just("i"), Just("(1..7)"), Just("'a,b'"), Just("3"), Just("x.a")];
    let with = (name.clone(), prop::collection::vec((prop::sample::select(NAMES), name.clone(), name.clone()), 0..4));
    let expression = with.prop_map(|(name, filters)| {
        filters.into_iter().fold(name.to_owned(), |so_far, (filter, a, b)| {
            let (least, most) = Filter::named(filter).unwrap().arguments();
            let arguments = [a, b][..if a.len() > 1 { most } else { least }].join(", ");
            if arguments.is_empty() {
                format!("{so_far} | {filter}")
            } else {
                format!("{so_far} | {filter}: {arguments}")
            }
        })
    });
    let piece = prop_oneof![
        expression.clone().prop_map(|e| format!("{{{{ {e} }}}}")),
        expression.clone().prop_map(|e| format!("<a href=\"{{{{ {e} }}}}\" title={{{{ {e} }}}}>")),
        expression.prop_map(|e| format!("{{% assign y = {e} %}}")),
        Just("text".to_owned()),
    ];
    prop::collection::vec(piece, 1..5).prop_map(|pieces| pieces.concat()).prop_recursive(3, 16, 3, move |inner| {
        prop_oneof![
            (name.clone(), inner.clone()).prop_map(|(n, body)| format!("{{% for i in {n} %}}{body}{{% endfor %}}")),
            (name.clone(), name.clone(), inner.clone())
                .prop_map(|(a, b, body)| format!("{{% if {a} contains {b} or {a} == {b} %}}{body}{{% endif %}}")),
            (inner.clone(), inner).prop_map(|(a, b)| a + &b),
        ]
    })
}

proptest! {
    /// What a filter makes is never larger than what it asked for: an estimate below the truth is an attack.
    #[test]
    fn no_filter_makes_more_than_it_asked_for(
        text in TEXT, other in json_value(), arguments in prop::collection::vec(json_value(), 2),
    ) {
        // A made text is copied where a view of the data is not.
        for (name, value) in NAMES.iter().flat_map(|name| [(name, value::Value::made(text.as_str())), (name, (&other).into())]) {
            let filter = Filter::named(name).unwrap();
            let (_, most) = filter.arguments();
            let arguments: Vec<_> = arguments.iter().take(most).map(value::Value::from).collect();
            let mut meter = Meter::new(Budget::default());
            let result = apply(filter, value.clone(), &arguments, &mut meter).unwrap();
            let shared = matches!((&value, &result), (value::Value::Made(a), value::Value::Made(b)) if std::rc::Rc::ptr_eq(a, b));
            let (holds, asked) = (held(&result), meter.made());
            prop_assert!(shared || holds <= asked, "{} of {:?} made {} bytes and asked for {}", name, value, holds, asked);
        }
    }

    /// Work counted anew: positions run, bytes held, bytes written.
    #[test]
    fn no_rendering_goes_over_its_budget(
        source in source(), x in json_value(), l in prop::collection::vec(json_value(), 0..20),
        steps in 1u32..2000, output in 1usize..2000, values in 1usize..20_000,
    ) {
        let Ok(template) = Template::parse(&source, Kind::Html) else { return Err(TestCaseError::reject("no template")) };
        let (data, budget) = (json!({ "x": x, "l": l }), Budget { steps, output, values });
        let mut machine = Machine::new(&template.ops, template.kind, &data, budget);
        let (mut at, mut ran, mut end) = (0, 0, Ok(()));
        while let Some(op) = template.ops.get(at) {
            ran += 1;
            match machine.run(op, at) {
                Ok(next) => at = next,
                Err(error) => { end = Err(error); break }
            }
            let (written, kept) = machine.held();
            prop_assert!(written <= output);
            prop_assert!(kept.map(held).max().unwrap_or(0) <= values);
        }
        prop_assert!(ran <= steps + 1);
        // An escaped piece is measured behind it: 4096 bytes, each at most six.
        prop_assert!(machine.held().0 <= output + 6 * 4096);
        prop_assert_eq!(template.render(&data, budget).map(|_| ()), end);
        let plenty = template.render(&data, Budget { steps: u32::MAX, output: usize::MAX, values: usize::MAX });
        if end.is_ok() {
            prop_assert_eq!(template.render(&data, budget), plenty);
        }
    }
}
