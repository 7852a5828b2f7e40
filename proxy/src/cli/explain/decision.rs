//! All of a decision about one message.

use polyport_codecs::{Exchange, Kind, Slot};
use polyport_router::{Predicate, Route};
use serde::Serialize;

use super::Message;
use super::target::Arm;
use crate::edit::Edit;
use crate::engine::may_wait;
use crate::guard::Guard;
use crate::observe::redact::{MASK, is_secret};
use crate::policy::mirror::Mirror;
use crate::policy::retry::{Retry, keepable, size};
use crate::snapshot::{Action, Forward, Snapshot};

/// A key and the message's value of it, escaped.
#[derive(Debug, Serialize)]
pub(super) struct Fact {
    pub(super) key: String,
    /// None: the message does not have it.
    pub(super) value: Option<String>,
}

/// A predicate of a route.
#[derive(Debug, Serialize)]
pub(super) struct Asked {
    #[serde(flatten)]
    pub(super) fact: Fact,
    pub(super) matcher: String,
}

/// A route that was not chosen: its first predicate that does not hold.
#[derive(Debug, Serialize)]
pub(super) struct Passed {
    pub(super) route: String,
    #[serde(flatten)]
    pub(super) asked: Asked,
}

/// What becomes of a message, and why.
#[derive(Debug, Default, Serialize)]
pub(super) struct Decision {
    /// Why no route is asked about such a message.
    pub(super) unasked: Option<&'static str>,
    pub(super) route: Option<String>,
    /// The predicates of the route, which all hold.
    pub(super) why: Vec<Asked>,
    /// By a rule, whatever limits and faults say.
    pub(super) denied: bool,
    /// No route matches, but within a session that was let in it would pass.
    pub(super) passes_in_session: bool,
    /// The status of the route's own answer.
    pub(super) answered: Option<u16>,
    #[serde(flatten)]
    pub(super) forward: Option<Sent>,
    /// The routes before, in file order.
    pub(super) not_chosen: Vec<Passed>,
}

/// What a route that sends messages on does with this one, in the order in which it is done.
#[derive(Debug, Serialize)]
pub(super) struct Sent {
    pub(super) only: Option<Only>,
    pub(super) limits: Vec<Limited>,
    pub(super) faults: Vec<Meets>,
    /// The key that picks the arm of the split.
    pub(super) sticky: Option<Fact>,
    pub(super) targets: Vec<Arm>,
    pub(super) retry: Option<Again>,
    pub(super) mirror: Option<Copied>,
    /// The keys of what is changed in the request, and in the response.
    pub(super) request: Vec<String>,
    pub(super) response: Vec<String>,
    /// None: it may take as long as it likes.
    pub(super) timeout: Option<String>,
    /// How long its client says that it waits.
    pub(super) client_timeout: Option<String>,
    pub(super) times: String,
}

/// Who may come.
#[derive(Debug, Serialize)]
pub(super) struct Only {
    pub(super) rule: String,
    /// This message may.
    pub(super) holds: bool,
}

/// A limit, and what it counts this message as.
#[derive(Debug, Serialize)]
pub(super) struct Limited {
    pub(super) limit: String,
    pub(super) by: Vec<Fact>,
}

/// A fault on purpose.
#[derive(Debug, Serialize)]
pub(super) struct Meets {
    pub(super) fault: String,
    /// Whether this message may meet it, where not every one may.
    pub(super) may: Option<bool>,
}

/// Whether it is tried again.
#[derive(Debug, Serialize)]
pub(super) struct Again {
    pub(super) policy: String,
    /// What that means for this message.
    pub(super) here: Option<String>,
}

/// Whether it is copied.
#[derive(Debug, Serialize)]
pub(super) struct Copied {
    pub(super) policy: String,
    /// Whether this message can be; none: that is not known.
    pub(super) may: Option<bool>,
    pub(super) target: Option<Arm>,
}

impl Decision {
    /// What becomes of `message`.
    pub(super) fn of(message: &Message<'_>) -> Self {
        let session =
            message.protocol.is_some_and(|at| at.protocol.exchange() == Exchange::Session);
        let kind = message.head.map(|head| head.kind);
        let unasked = match kind {
            None | Some(Kind::Request | Kind::Oneway) => None,
            Some(_) if session => Some("the message passes as it is within its session"),
            Some(Kind::Heartbeat | Kind::Local) => Some("the proxy answers the message itself"),
            Some(_) => Some("the proxy drops the message, as only servers send such"),
        };
        if unasked.is_some() {
            return Self { unasked, ..Self::default() };
        }
        let routes = message.snapshot.routes.routes();
        let mut decision = Self::default();
        let mut found: Option<&Route<Action>> = None;
        for verdict in message.snapshot.routes.explain(&message.view) {
            let Some(route) = routes.get(verdict.route) else { continue };
            match verdict.failed.and_then(|at| route.when.get(at)) {
                Some(failed) => {
                    let asked = Asked::of(message, failed);
                    decision.not_chosen.push(Passed { route: route.name.clone(), asked });
                }
                None => found = Some(route),
            }
        }
        let Some(route) = found else {
            decision.denied = message.snapshot.access.deny;
            decision.passes_in_session = session && !decision.denied;
            return decision;
        };
        decision.route = Some(route.name.clone());
        decision.why = route.when.iter().map(|asked| Asked::of(message, asked)).collect();
        match &route.then {
            Action::Deny => decision.denied = true,
            Action::Respond(reply) => decision.answered = Some(reply.status),
            Action::Forward(forward) => {
                let sent = Sent::of(message, forward);
                decision.denied = sent.only.as_ref().is_some_and(|only| !only.holds);
                decision.forward = Some(sent);
            }
        }
        decision
    }
}

impl Decision {
    /// Hides what secrets are compared with, for people who may not read the config.
    pub(super) fn hide_secrets(&mut self, snapshot: &Snapshot) {
        let passed = self.not_chosen.iter_mut().map(|passed| &mut passed.asked);
        for asked in self.why.iter_mut().chain(passed) {
            if is_secret(&asked.fact.key) {
                asked.matcher = MASK.into();
            }
        }
        let Some(sent) = &mut self.forward else { return };
        let secrets: Vec<&str> = snapshot.interest.names().filter(|key| is_secret(key)).collect();
        let only = sent.only.iter_mut().map(|only| &mut only.rule);
        let faults = sent.faults.iter_mut().map(|meets| &mut meets.fault);
        for rule in only.chain(faults) {
            // These are sentences: one that is about a secret is hidden whole.
            if secrets.iter().any(|key| rule.contains(key)) {
                *rule = MASK.into();
            }
        }
    }
}

impl Fact {
    pub(super) fn of(message: &Message<'_>, slot: Slot) -> Self {
        Self { key: message.key(slot), value: message.value(slot) }
    }
}

impl Asked {
    fn of(message: &Message<'_>, predicate: &Predicate) -> Self {
        let matcher = predicate.matcher.to_string();
        Self { fact: Fact::of(message, predicate.slot), matcher }
    }
}

impl Sent {
    fn of(message: &Message<'_>, forward: &Forward) -> Self {
        let nothing = Guard::default();
        let guard = forward.guard.as_deref().unwrap_or(&nothing);
        let view = &message.view;
        let only = guard.only.as_ref();
        let limits = guard.limits.0.iter().map(|limit| Limited {
            limit: limit.to_string(),
            by: limit.slots().iter().map(|slot| Fact::of(message, *slot)).collect(),
        });
        let faults = guard.faults.iter().map(|fault| Meets {
            fault: fault.to_string(),
            may: fault.when.as_ref().map(|when| when.holds(view)),
        });
        let taken = forward.arm(view);
        let keys = |edits: &[Edit]| edits.iter().map(|edit| edit.key.to_string()).collect();
        let edits = forward.edits.as_deref();
        let timeout = forward.timeout.unwrap_or(message.snapshot.timeouts.request);
        let waits =
            message.asks().is_some_and(|(head, exchange, lease)| may_wait(&head, lease, exchange));
        let client = message
            .head
            .filter(|head| head.timeout > 0)
            .map(|head| format!("{:?}", std::time::Duration::from_millis(u64::from(head.timeout))));
        Self {
            only: only.map(|only| Only { rule: only.to_string(), holds: only.holds(view) }),
            limits: limits.collect(),
            faults: faults.collect(),
            sticky: forward
                .sticky
                .filter(|_| forward.targets.len() > 1)
                .map(|slot| Fact::of(message, slot)),
            targets: forward
                .targets
                .iter()
                .enumerate()
                .filter_map(|(at, target)| {
                    let taken = taken.map(|taken| taken == at);
                    let budget = forward.retry.is_some();
                    Arm::of(message, target, forward.split.share(at), taken, budget)
                })
                .collect(),
            retry: forward.retry.as_deref().map(|retry| Again::of(message, retry)),
            mirror: forward.mirror.as_deref().map(|mirror| Copied::of(message, mirror)),
            request: edits.map(|edits| keys(&edits.request)).unwrap_or_default(),
            response: edits.map(|edits| keys(&edits.response)).unwrap_or_default(),
            timeout: (!waits).then(|| format!("{timeout:?}")),
            client_timeout: client,
            times: forward.times.or(&message.snapshot.timeouts).to_string(),
        }
    }
}

impl Again {
    fn of(message: &Message<'_>, retry: &Retry) -> Self {
        let here = match message.asks() {
            Some((head, _, lease)) => Some(retry.again(&head, lease, size(&head)).to_string()),
            None if retry.idempotent => None,
            None => Some(
                "this message if its protocol says that it is, else only where no connection \
                 came about"
                    .into(),
            ),
        };
        Self { policy: retry.to_string(), here }
    }
}

impl Copied {
    fn of(message: &Message<'_>, mirror: &Mirror) -> Self {
        let fits = |(head, _, lease)| keepable(lease) && size(&head) <= mirror.buffer as u64;
        Self {
            policy: mirror.to_string(),
            may: message.asks().map(fits),
            target: Arm::of(message, &mirror.target, 1.0, Some(true), false),
        }
    }
}
