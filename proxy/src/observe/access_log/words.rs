//! What lines call a request, and its end.

use polyport_codecs::{Fault, Outcome};

use crate::engine::report::{Ended, Ending};

/// The value of the field `kind`.
pub fn kind_word(ended: &Ended<'_>) -> &'static str {
    match ended.how {
        Ending::Over { .. } => "session",
        Ending::Passed | Ending::Refused(_) => "message",
        // Opaque bytes are a session, or would have been.
        _ if ended.protocol.is_none() => "session",
        _ => ended.kind.as_str(),
    }
}

/// The value of the field `outcome`.
pub fn outcome_word(how: Ending) -> &'static str {
    match how {
        Ending::Over { fault: Some(_), .. } | Ending::Failed { .. } | Ending::Refused(Some(_)) => {
            "fault"
        }
        Ending::Replied { outcome, .. } | Ending::Over { outcome, .. } => outcome.as_str(),
        Ending::Sent | Ending::Passed => "sent",
        Ending::Opened => Outcome::Ok.as_str(),
        Ending::Local => "local",
        Ending::Reset | Ending::Refused(None) => "reset",
        Ending::Abandoned => "abandoned",
    }
}

/// Whether neither the proxy nor the upstream failed.
pub fn is_well(how: Ending) -> bool {
    match how {
        Ending::Replied { outcome, .. } | Ending::Over { outcome, fault: None } => {
            matches!(outcome, Outcome::Ok | Outcome::AppError)
        }
        Ending::Sent | Ending::Passed | Ending::Opened | Ending::Local => true,
        _ => false,
    }
}

/// The value of the field `fault`.
pub fn fault_word(fault: Fault) -> &'static str {
    match fault {
        Fault::NoRoute => "no-route",
        Fault::NoHealthyEndpoint => "unavailable",
        Fault::ConnectFailed => "connect-failed",
        Fault::UpstreamReset => "upstream-reset",
        Fault::Timeout => "timeout",
        Fault::TooLarge => "too-large",
        Fault::Malformed => "malformed",
        Fault::Overloaded => "overloaded",
        Fault::Denied => "denied",
        Fault::Unsupported => "unsupported",
        Fault::ShuttingDown => "shutting-down",
        Fault::Expired => "expired",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_called_as_configs_call_them() {
        for (name, fault) in crate::guard::FAULTS {
            assert_eq!(fault_word(fault), name);
        }
    }
}
