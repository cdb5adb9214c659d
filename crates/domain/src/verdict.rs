//! Who caused an event: a person, a provider that loads ahead, or a robot. The raw event is kept, so it can be judged anew.
//!
//! Judged by what the client says of itself: cheap, explainable, and wrong for robots that pretend to be browsers.
//! To add a client: a line in the tables below.

use crate::event::{EventType, Verdict};

/// Providers that load images when mail arrives, whether or not anybody reads it. Apple's shows nothing but this word.
const PREFETCH: &[&str] = &["YahooMailProxy", "GmailImagePrefetch"];

/// Robots that follow links or load images: mail gateways, previews, programs. Compared without regard to case.
const SCANNERS: &[&str] = &[
    "barracuda",
    "proofpoint",
    "mimecast",
    "safelinks",
    "microsoft office existence discovery",
    "symantec",
    "messagelabs",
    "sophos",
    "trendmicro",
    "fireeye",
    "cisco",
    "ironport",
    "forcepoint",
    "bot",
    "crawler",
    "spider",
    "scanner",
    "preview",
    "curl/",
    "wget/",
    "python",
    "go-http-client",
    "java/",
    "okhttp",
    "axios",
    "node-fetch",
    "headless",
    "phantomjs",
    "libwww",
    "httpclient",
];

/// Judges one event. Unsubscribing is a deed of a person always: mail programs do it on a person's behalf.
pub fn judge(event_type: EventType, user_agent: Option<&str>, method: Option<&str>) -> Verdict {
    if event_type == EventType::Unsubscribe {
        return Verdict::Human;
    }
    let agent = user_agent.unwrap_or("").trim();
    let lower = agent.to_lowercase();
    if method == Some("HEAD") || agent.is_empty() || SCANNERS.iter().any(|word| lower.contains(word)) {
        return Verdict::Scanner;
    }
    let prefetch = agent == "Mozilla/5.0" || PREFETCH.iter().any(|word| agent.contains(word));
    if event_type == EventType::Open && prefetch { Verdict::Prefetch } else { Verdict::Human }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_judged_by_what_they_say() {
        let browser = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/120.0 Safari/537.36";
        let gmail = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)";
        for (kind, agent, method, verdict) in [
            (EventType::Open, Some(browser), Some("GET"), Verdict::Human),
            (EventType::Open, Some(gmail), Some("GET"), Verdict::Human),
            (EventType::Open, Some("Mozilla/5.0"), Some("GET"), Verdict::Prefetch),
            (EventType::Click, Some("Mozilla/5.0"), Some("GET"), Verdict::Human),
            (EventType::Open, Some("YahooMailProxy; https://help.yahoo.com"), Some("GET"), Verdict::Prefetch),
            (EventType::Click, Some("Barracuda Sentinel (EE)"), Some("GET"), Verdict::Scanner),
            (EventType::Click, Some(browser), Some("HEAD"), Verdict::Scanner),
            (EventType::Open, Some("python-requests/2.31"), Some("GET"), Verdict::Scanner),
            (EventType::Open, None, None, Verdict::Scanner),
            (EventType::Unsubscribe, None, Some("POST"), Verdict::Human),
        ] {
            assert_eq!(judge(kind, agent, method), verdict, "{agent:?}");
        }
    }
}
