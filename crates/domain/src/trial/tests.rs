//! Cases of trials: the split, the sample and the rule.

use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::from_unix_seconds(1_772_366_400);
const HOUR: Duration = Duration::from_secs(3600);

fn step(n: u128) -> StepId {
    StepId::from_uuid(Uuid::from_u128(n))
}

fn lead(n: u128) -> LeadId {
    LeadId::from_uuid(Uuid::from_u128(n))
}

fn trial(weights: &[u32], sample_percent: Option<u32>) -> Trial {
    let variant = |(n, weight): (usize, &u32)| Variant { key: format!("v{n}"), weight: *weight };
    Trial {
        variants: weights.iter().enumerate().map(variant).collect(),
        rule: sample_percent.map(|sample_percent| Rule { by: Measure::Opens, after: 4 * HOUR, sample_percent }),
        winner: None,
    }
}

fn count(key: &str, sent: u64, reacted: u64) -> Count {
    Count { key: key.into(), sent, reacted }
}

/// Of so many leads, how many get each variant.
fn split(trial: &Trial, step_id: StepId, leads: u128) -> Vec<u64> {
    let mut counts = vec![0; trial.variants.len()];
    for n in 0..leads {
        let key = trial.assigned(step_id, lead(n)).unwrap();
        counts[trial.variants.iter().position(|variant| variant.key == key).unwrap()] += 1;
    }
    counts
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, rng_seed: proptest::test_runner::RngSeed::Fixed(20), ..ProptestConfig::default() })]

    /// Within five standard deviations of a binomial distribution.
    #[test]
    fn leads_are_split_by_weight(weights in prop::collection::vec(1_u32..9, 2..6), n in any::<u128>()) {
        const LEADS: u32 = 4_000;
        let counts = split(&trial(&weights, None), step(n), u128::from(LEADS));
        let all: u32 = weights.iter().sum();
        for (weight, count) in weights.iter().zip(counts) {
            let part = f64::from(*weight) / f64::from(all);
            let (mean, deviation) = (part * f64::from(LEADS), (f64::from(LEADS) * part * (1.0 - part)).sqrt());
            prop_assert!((count as f64 - mean).abs() <= 5.0 * deviation, "{weights:?}: {count} for {weight}");
        }
    }

    /// The sample is as large as it was said, keeps whom it has when it grows, and holds each variant in its part.
    #[test]
    fn the_sample_is_a_part_of_the_leads(percent in 1_u32..99, n in any::<u128>()) {
        const LEADS: u128 = 4_000;
        let (small, large) = (trial(&[1, 1], Some(percent)), trial(&[1, 1], Some(percent + 1)));
        let is_in = |trial: &Trial, n_lead: u128| !trial.waits(step(n), lead(n_lead));
        let sample: Vec<u128> = (0..LEADS).filter(|n_lead| is_in(&small, *n_lead)).collect();
        let (part, leads) = (f64::from(percent) / 100.0, LEADS as f64);
        let far = (sample.len() as f64 - part * leads).abs();
        prop_assert!(far <= 5.0 * (leads * part * (1.0 - part)).sqrt(), "{} of {percent}", sample.len());
        prop_assert!(sample.iter().all(|n_lead| is_in(&large, *n_lead)));
        let first = sample.iter().filter(|n_lead| small.assigned(step(n), lead(**n_lead)) == Some("v0")).count();
        let far = (first as f64 - sample.len() as f64 / 2.0).abs();
        prop_assert!(far <= 5.0 * (sample.len() as f64 / 4.0).sqrt(), "{first} of {}", sample.len());
    }
}

/// What ledgers hold was chosen by this hash: another one would send a lead whose mail is planned anew another text.
#[test]
fn the_split_is_the_same_for_ever() {
    let trial = trial(&[1, 2, 1], Some(30));
    let keys: Vec<&str> = (0..12).map(|n| trial.assigned(step(7), lead(n)).unwrap()).collect();
    let waits: Vec<bool> = (0..12).map(|n| trial.waits(step(7), lead(n))).collect();
    assert_eq!(keys.join(" "), "v1 v2 v2 v1 v1 v1 v1 v1 v2 v1 v1 v2");
    assert_eq!(waits.iter().map(|waits| if *waits { 'w' } else { 's' }).collect::<String>(), "swwwwsswwwsw");
    assert_ne!(split(&trial, step(7), 40), split(&trial, step(8), 40), "each step has a split of its own");
}

#[test]
fn a_winner_is_everybodys() {
    let mut decided = trial(&[1, 1], Some(10));
    assert!((0..50).any(|n| decided.waits(step(1), lead(n))));
    decided.winner = Some("v1".into());
    assert!((0..50).all(|n| !decided.waits(step(1), lead(n)) && decided.assigned(step(1), lead(n)) == Some("v1")));
    assert!((0..50).all(|n| !trial(&[1, 1], None).waits(step(1), lead(n))), "without a rule nobody waits");
}

#[test]
fn the_highest_rate_wins() {
    assert_eq!(winner(&[count("a", 10, 2), count("b", 5, 2)]), Some("b"), "rates, not numbers");
    assert_eq!(winner(&[count("a", 3, 1), count("b", 6, 2), count("c", 9, 3)]), Some("a"), "a tie is the first's");
    assert_eq!(winner(&[count("a", 4, 0), count("b", 9, 0)]), Some("a"), "so it is without any event");
    assert_eq!(winner(&[count("a", 0, 0), count("b", 9, 1), count("c", 0, 0)]), Some("b"));
    assert_eq!(winner(&[count("a", 0, 0), count("b", 0, 0)]), Some("a"), "and where nobody was sent anything");
    assert_eq!(winner(&[]), None);
}

#[test]
fn the_rule_decides_behind_the_last_mail_of_the_sample() {
    let rule = trial(&[1, 1], Some(10)).rule.unwrap();
    let sent = Progress { last_sent_at: Some(NOW), waited_for_since: Some(NOW - HOUR), is_under_way: false };
    assert_eq!(rule.next(&sent, NOW), Next::LookAgain(NOW + 4 * HOUR));
    assert_eq!(rule.next(&sent, NOW + 5 * HOUR), Next::Decide(NOW + 4 * HOUR), "late, but as of then");
    let under_way = Progress { is_under_way: true, ..sent };
    assert_eq!(rule.next(&under_way, NOW + 9 * HOUR), Next::LookAgain(NOW + 9 * HOUR + LOOK_AGAIN));
    let of_nobody = Progress { last_sent_at: None, ..sent };
    assert_eq!(rule.next(&of_nobody, NOW + 3 * HOUR), Next::Decide(NOW + 3 * HOUR));
    assert_eq!(rule.next(&Progress::default(), NOW), Next::LookAgain(NOW + LOOK_AGAIN));
}
