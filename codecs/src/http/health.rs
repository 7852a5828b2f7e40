//! Health checks: a page and its status, or gRPC's health service
//! (`grpc.health.v1.Health/Check`).

use std::sync::Arc;

use super::note;
use crate::frame::ReplyTo;
use crate::health::{
    Answered, BadOption, HealthAsk, HealthCheck, HealthOption, HealthWay, Say, Verdict,
};

const HOST: HealthOption = HealthOption::new("host", "the host that is asked for", "shop.example");

/// The name of the way by gRPC's health service.
const GRPC: &str = "grpc";

pub(super) const WAYS: &[HealthWay] = &[
    HealthWay {
        name: super::NAME,
        options: &[
            HealthOption::new("path", "the page that is asked for", "/healthz"),
            HealthOption::new("status", "statuses that are well, and ranges", "200"),
            HOST,
        ],
        streams: false,
    },
    HealthWay {
        name: GRPC,
        options: &[
            HealthOption::new("service", "the service that must be serving", "shop.Orders"),
            HOST,
        ],
        streams: true,
    },
];

pub(super) fn check(ask: &HealthAsk<'_>) -> Result<Arc<dyn HealthCheck>, BadOption> {
    let host = ask.word("host")?.map(str::to_owned);
    if ask.way == GRPC {
        let service = ask.word("service")?.unwrap_or_default().to_owned();
        if service.len() > 1024 {
            return Err(BadOption::new("service", "no service has a name of over 1 KiB"));
        }
        return Ok(Arc::new(Serving { host, service }));
    }
    let path = ask.word("path")?.unwrap_or("/").to_owned();
    if !path.starts_with('/') {
        return Err(BadOption::new("path", "a path begins with /"));
    }
    let statuses = ask.all("status").iter().map(|text| status(text));
    let mut statuses = statuses.collect::<Result<Vec<_>, _>>()?;
    if statuses.is_empty() {
        statuses.push((200, 399));
    }
    Ok(Arc::new(Page { host, path, statuses }))
}

/// `200` or `200-299`.
fn status(text: &str) -> Result<(u16, u16), BadOption> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.trim().parse(), last.trim().parse()) {
        (Ok(first), Ok(last)) if (200..=last).contains(&first) && last <= 599 => Ok((first, last)),
        _ => {
            let why =
                format!("`{text}` is no status: write 200, \"200-299\", or an array of these");
            Err(BadOption::new("status", why))
        }
    }
}

/// A page whose status tells.
struct Page {
    host: Option<String>,
    path: String,
    /// Ranges, both ends included.
    statuses: Vec<(u16, u16)>,
}

impl HealthCheck for Page {
    fn say(&self, round: usize, host: &str, out: &mut Vec<u8>) -> Say {
        if round > 0 {
            return Say::Over { keep: false };
        }
        let host = self.host.as_deref().unwrap_or(host);
        let (path, agent) = (&self.path, "user-agent: polyport-health\r\naccept: */*");
        let head = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{agent}\r\n\r\n");
        out.extend_from_slice(head.as_bytes());
        Say::Ask(ReplyTo::default())
    }

    fn judge(&self, _: usize, answer: &Answered<'_>) -> Verdict {
        // The decoder has seen to it that a status stands here.
        let digits = answer.bytes.trim_ascii_start().get(9..12).unwrap_or_default();
        let status = std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok());
        let status: u16 = status.unwrap_or(0);
        match self.statuses.iter().any(|(first, last)| (*first..=*last).contains(&status)) {
            true => Verdict::Well,
            false => Verdict::Ill(format!("its status is {status}")),
        }
    }
}

/// gRPC's health service.
struct Serving {
    host: Option<String>,
    /// Empty: the server as a whole.
    service: String,
}

impl HealthCheck for Serving {
    fn say(&self, round: usize, host: &str, out: &mut Vec<u8>) -> Say {
        if round > 0 {
            return Say::Over { keep: true };
        }
        // HealthCheckRequest, whose field 1 is the service's name; before it whether it is
        // compressed, and its length.
        let mut message = Vec::new();
        if !self.service.is_empty() {
            message.push(0x0a);
            let mut left = self.service.len();
            while left > 0x7f {
                message.push(left as u8 | 0x80);
                left >>= 7;
            }
            message.push(left as u8);
            message.extend_from_slice(self.service.as_bytes());
        }
        let (host, len) = (self.host.as_deref().unwrap_or(host), message.len() + 5);
        let head = format!(
            "POST /grpc.health.v1.Health/Check HTTP/1.1\r\nhost: {host}\r\n\
             user-agent: polyport-health\r\ncontent-type: application/grpc\r\nte: trailers\r\n\
             content-length: {len}\r\n\r\n"
        );
        out.extend_from_slice(head.as_bytes());
        out.push(0);
        out.extend_from_slice(&(message.len() as u32).to_be_bytes());
        out.extend_from_slice(&message);
        Say::Ask(ReplyTo { id: 0, token: note::GRPC | note::TRAILERS })
    }

    fn judge(&self, _: usize, answer: &Answered<'_>) -> Verdict {
        let message = match answer.body {
            [0, a, b, c, d, rest @ ..] => {
                rest.get(..u32::from_be_bytes([*a, *b, *c, *d]) as usize).unwrap_or_default()
            }
            [] => {
                // Trailers only.
                let outcome = answer.head.outcome.as_str();
                return Verdict::Ill(format!("its health service answers {outcome}"));
            }
            _ => return Verdict::Ill("its health service answers in no known way".into()),
        };
        match serving_status(message) {
            1 => Verdict::Well,
            2 => Verdict::Ill("it says NOT_SERVING".into()),
            3 => Verdict::Ill("it says SERVICE_UNKNOWN".into()),
            _ => Verdict::Ill("it says UNKNOWN".into()),
        }
    }

    fn wants_body(&self) -> bool {
        true
    }
}

/// Field 1 of a HealthCheckResponse, which has no other; 0 where it is not there.
fn serving_status(message: &[u8]) -> u8 {
    match message {
        [0x08, status @ 0..=0x7f, ..] => *status,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Head, Kind, Outcome};
    use crate::http::Http;
    use crate::{Interest, Limits, Metadata, Protocol, Side, Step};

    fn ask<'a>(way: &'a str, options: &'a [(String, Vec<String>)]) -> HealthAsk<'a> {
        HealthAsk { way, options }
    }

    fn options(all: &[(&str, &[&str])]) -> Vec<(String, Vec<String>)> {
        let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        all.iter().map(|(name, values)| ((*name).to_owned(), texts(values))).collect()
    }

    /// What the check makes of a reply, decoded as the prober does.
    fn verdict(check: &dyn HealthCheck, reply: &str) -> Verdict {
        let mut out = Vec::new();
        let Say::Ask(to) = check.say(0, "backend", &mut out) else { panic!("it asks nothing") };
        let codec = Http.compile(&Limits::default(), &Interest::nothing());
        let mut decoder = codec.decoder(Side::Reply);
        decoder.expect(to);
        let step = decoder.decode(reply.as_bytes(), &mut Metadata::default()).expect("a reply");
        let Step::Head(head) = step else { panic!("{step:?}") };
        let bytes = &reply.as_bytes()[..head.len];
        check.judge(0, &Answered { head: &head, bytes, body: &[] })
    }

    #[test]
    fn a_page_is_well_by_its_status() {
        let said = options(&[("path", &["/ok?a=b"]), ("status", &["200", "300-302"])]);
        let check = check(&ask("http", &said)).expect("a check");
        let mut out = Vec::new();
        check.say(0, "backend", &mut out);
        assert!(out.starts_with(b"GET /ok?a=b HTTP/1.1\r\nhost: backend\r\n"), "{out:?}");
        let status = |status: u16| {
            verdict(&*check, &format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n"))
        };
        for well in [200, 300, 302] {
            assert_eq!(status(well), Verdict::Well);
        }
        for ill in [204, 303, 404, 503] {
            assert_eq!(status(ill), Verdict::Ill(format!("its status is {ill}")));
        }
        assert_eq!(check.say(1, "backend", &mut out), Say::Over { keep: false });
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let cases: [(&str, &[&str], &str); 6] = [
            ("path", &["healthz"], "begins with /"),
            ("path", &["/a\r\nb: c"], "without blanks"),
            ("path", &["/a", "/b"], "not several"),
            ("status", &["20"], "is no status"),
            ("status", &["300-200"], "is no status"),
            ("host", &["a b"], "without blanks"),
        ];
        for (name, values, why) in cases {
            let said = options(&[(name, values)]);
            let error = check(&ask("http", &said)).err().expect("an error");
            assert_eq!(error.option, name);
            assert!(error.why.contains(why), "{error}");
        }
    }

    #[test]
    fn a_grpc_service_says_itself_whether_it_serves() {
        let said = options(&[("service", &["shop.Orders"])]);
        let check = check(&ask("grpc", &said)).expect("a check");
        let mut out = Vec::new();
        check.say(0, "backend", &mut out);
        assert!(out.ends_with(b"\r\n\r\n\0\0\0\0\x0d\x0a\x0bshop.Orders"), "{out:?}");
        let head = Head::whole(Kind::Response, 0);
        let says = |body: &[u8]| check.judge(0, &Answered { head: &head, bytes: b"", body });
        assert_eq!(says(b"\0\0\0\0\x02\x08\x01"), Verdict::Well);
        assert_eq!(says(b"\0\0\0\0\x02\x08\x02"), Verdict::Ill("it says NOT_SERVING".into()));
        assert_eq!(says(b"\0\0\0\0\0"), Verdict::Ill("it says UNKNOWN".into()));
        assert_eq!(says(b"\0\0\0\0\x09\x08"), Verdict::Ill("it says UNKNOWN".into()));
        let head = Head { outcome: Outcome::AppError, ..head };
        let none = check.judge(0, &Answered { head: &head, bytes: b"", body: b"" });
        assert_eq!(none, Verdict::Ill("its health service answers app-error".into()));
    }
}
