//! `GET /api/profile?format=svg|pprof|folded`: stacks of the workers and of the control
//! thread, sampled for a while.

use std::time::Duration;

use axum::http::StatusCode;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

use super::api::Refusal;
use crate::observe::stacks::{Refused, Sampling, Stacks, admit};
use crate::worker::Observer;

/// How a profile is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// What each thread used and did, as JSON; no stacks.
    Threads,
    /// A flame graph.
    Svg,
    /// `profile.proto`.
    Pprof,
    /// A line a stack.
    Folded,
}

impl Format {
    const ALL: [(&str, Self); 4] = [
        ("threads", Self::Threads),
        ("svg", Self::Svg),
        ("pprof", Self::Pprof),
        ("folded", Self::Folded),
    ];

    /// By its name; `threads` where none is asked for.
    pub(super) fn named(name: Option<&str>) -> Result<Self, Refusal> {
        let Some(name) = name else { return Ok(Self::Threads) };
        let found = Self::ALL.iter().find(|(other, _)| *other == name);
        found.map(|(_, format)| *format).ok_or_else(|| {
            let why = "format is threads, svg, pprof or folded";
            Refusal(StatusCode::BAD_REQUEST, why.into())
        })
    }

    fn show(self, stacks: &Stacks) -> Response {
        match self {
            Self::Svg => ([(CONTENT_TYPE, "image/svg+xml")], stacks.svg()).into_response(),
            Self::Pprof => {
                let headers = [
                    (CONTENT_TYPE, "application/octet-stream"),
                    (CONTENT_DISPOSITION, "attachment; filename=\"polyport.pb\""),
                ];
                (headers, stacks.pprof()).into_response()
            }
            Self::Folded | Self::Threads => {
                let kind = "text/plain; charset=utf-8";
                ([(CONTENT_TYPE, kind)], stacks.folded()).into_response()
            }
        }
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        let status = match refused {
            Refused::Busy => StatusCode::CONFLICT,
            Refused::Unable(_) => StatusCode::NOT_IMPLEMENTED,
        };
        Self(status, refused.to_string())
    }
}

/// Samples for so long. Who leaves before the end ends it.
pub(super) async fn profile(
    observer: &Observer,
    lasts: Duration,
    format: Format,
) -> Result<Response, Refusal> {
    let sampling = apart(Sampling::begin).await?;
    admit();
    observer.ask(|_| admit()).await;
    tokio::time::sleep(lasts).await;
    apart(move || Ok(format.show(&sampling.end()?))).await
}

/// Away from the control thread, which has others to answer.
async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refused> + Send + 'static,
) -> Result<T, Refusal> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(Refusal::from),
        Err(_) => {
            let why = "the profile failed; see the log";
            Err(Refusal(StatusCode::INTERNAL_SERVER_ERROR, why.into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_go_by_name() {
        assert_eq!(Format::named(None).expect("one"), Format::Threads);
        assert_eq!(Format::named(Some("svg")).expect("one"), Format::Svg);
        let refusal = Format::named(Some("png")).expect_err("no such format");
        assert_eq!(refusal.0, StatusCode::BAD_REQUEST);
        assert_eq!(Refusal::from(Refused::Busy).0, StatusCode::CONFLICT);
    }
}
