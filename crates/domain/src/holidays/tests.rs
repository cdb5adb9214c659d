//! Every holiday of every country against an independent oracle's; `tests/holidays/oracle.py` says how it was asked.

use super::*;

const EXPECTED: &str = include_str!("../../tests/holidays/expected.txt");

/// Lines of the oracle as words; the first of a line is a code, or `easter`.
fn expected() -> impl Iterator<Item = Vec<&'static str>> {
    EXPECTED.lines().filter(|line| !line.starts_with('#')).map(|line| line.split(' ').collect())
}

fn dates(words: &[&str]) -> Vec<civil::Date> {
    let date = |day: &&str| format!("{}-{}-{}", words[1], &day[..2], &day[2..]).parse().unwrap();
    words[2..].iter().map(date).collect()
}

#[test]
fn easter_is_where_the_oracle_has_it() {
    let lines: Vec<_> = expected().filter(|words| words[0] == "easter").collect();
    assert_eq!(lines.len(), 110);
    for words in lines {
        let found = easter_sunday(words[1].parse().unwrap());
        assert_eq!(found, Some(dates(&words)[0]), "{}", words[1]);
    }
}

#[test]
fn the_holidays_of_every_country_are_the_oracles() {
    let mut compared: BTreeMap<&str, usize> = BTreeMap::new();
    for words in expected().filter(|words| words[0] != "easter") {
        let country: Country = words[0].parse().unwrap();
        let year: i16 = words[1].parse().unwrap();
        let found: Vec<civil::Date> = civil::date(year, 1, 1)
            .series(1.day())
            .take_while(|day| day.year() == year)
            .filter(|day| country.is_holiday(Date::from_civil(*day)))
            // The oracle leaves out Spain's Sundays, since regions may move them.
            .filter(|day| country.code() != "ES" || day.weekday() != civil::Weekday::Sunday)
            .collect();
        assert_eq!(found, dates(&words), "{} {year}", country.name());
        *compared.entry(words[0]).or_default() += 1;
    }
    let codes: Vec<&str> = Country::all().map(Country::code).collect();
    assert_eq!(compared.keys().copied().collect::<Vec<_>>(), codes, "every country was compared");
    assert!(compared.values().all(|years| *years == 28), "{compared:?}");
}

#[test]
fn every_rule_makes_a_day_in_each_of_its_years() {
    for country in Country::all() {
        for (name, rule) in &country.entry.holidays {
            let kinds = [rule.date.is_some(), rule.first.is_some() && rule.from.is_some(), rule.easter.is_some()];
            assert_eq!(kinds.iter().filter(|kind| **kind).count(), 1, "{} {name}", country.code);
            for year in YEARS.filter(|year| rule.holds_in(*year)) {
                assert!(rule.days_in(year).count() >= 1, "{} {name} {year}", country.code);
            }
        }
    }
}

#[test]
fn the_known_years_are_whole() {
    let us: Country = "us".parse().unwrap();
    let holidays_of =
        |year: i16| us.entry.days.iter().filter(|day| day.to_string().starts_with(&year.to_string())).count();
    assert!([2019, 2100].iter().all(|year| holidays_of(*year) == 0));
    assert!(YEARS.clone().all(|year| holidays_of(year) >= 10));
    assert!(us.is_holiday("2021-12-31".parse().unwrap()), "New Year's Day of 2022 is observed in 2021");
}

#[test]
fn an_unknown_country_is_refused_with_those_that_are_known() {
    let said = "UK".parse::<Country>().unwrap_err().to_string();
    assert!(said.starts_with("`UK` is no country whose holidays are known (hint: one of AT, AU, "), "{said}");
    assert!(said.ends_with(" SE, US)"), "{said}");
}

#[test]
fn the_guide_lists_the_countries() {
    let guide = include_str!("../../../../docs/guide.md").split_whitespace().collect::<Vec<_>>().join(" ");
    let listed = format!("Known are {}; those of states", known());
    assert!(guide.contains(&listed), "the guide has: {listed}");
}
