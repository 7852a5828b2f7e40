//! What a worker counts. Each figure is one line here: its name in code, its name in
//! `/stats`, and what it means.

macro_rules! counters {
    ($($(#[$about:meta])* $name:ident as $shown:literal,)*) => {
        /// What a worker has done, counted since it started.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$about])* pub $name: u64,)*
        }

        impl Counters {
            /// The figures' names in `/stats`.
            pub const NAMES: [&'static str; Self::COUNT] = [$($shown),*];
            /// How many figures there are.
            pub const COUNT: usize = [$($shown),*].len();

            /// The figures, in the order of their names.
            pub fn values(&self) -> [u64; Self::COUNT] {
                [$(self.$name),*]
            }

            /// The figures from their values.
            pub fn from_values(values: [u64; Self::COUNT]) -> Self {
                let [$($name),*] = values;
                Self { $($name),* }
            }
        }
    };
}

counters! {
    /// Downstream connections accepted.
    accepted as "downstream_connections_total",
    /// Upstream connections asked for.
    connects as "upstream_connections_total",
    /// Requests that came from downstreams. Each is counted once more when it ends: as
    /// answered, as one-way, as a local error or as abandoned.
    requests as "requests_total",
    /// Requests that expect no reply, and were sent.
    oneways as "requests_oneway_total",
    /// Messages from clients within sessions.
    messages as "session_messages_total",
    /// Those of them that were not let pass.
    refused as "session_messages_refused_total",
    /// Requests that an upstream answered; those that opened a session that it joined.
    answered as "requests_answered_total",
    /// Requests that the proxy answered with an error, or reset on purpose.
    faults as "requests_local_errors_total",
    /// Requests whose downstream left before the answer.
    abandoned as "requests_abandoned_total",
    /// Requests sent again because a pooled connection turned out dead.
    resent as "requests_resent_total",
    /// Tries of requests after their first.
    retried as "requests_retried_total",
    /// Copies of requests sent for nobody.
    mirrored as "requests_mirrored_total",
    /// Messages answered at home: heartbeats and the like.
    local as "messages_answered_at_home_total",
    /// Connections closed because their bytes broke the protocol.
    malformed as "protocol_errors_total",
    /// Replies that came after their request had ended.
    late as "replies_late_total",
    /// Requests refused because a bound on connections, requests or waiting was reached.
    overloaded as "requests_overloaded_total",
    /// Requests refused because the process runs out of memory.
    shed as "requests_shed_total",
    /// Clients' idle connections closed because the process runs out of something.
    relieved as "downstream_connections_relieved_total",
    /// Idle connections to endpoints closed for that reason.
    relieved_up as "upstream_connections_relieved_total",
    /// Lines written to access logs.
    logged as "access_log_lines_total",
    /// Lines that access logs lack, as the writer was behind.
    unlogged as "access_log_dropped_total",
}
