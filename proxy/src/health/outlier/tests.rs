use super::*;

const NONE: [usize; 0] = [];

fn rules() -> Rules {
    Rules {
        consecutive: 5,
        success_rate: None,
        latency: None,
        every: Duration::from_secs(10),
        base: Duration::from_secs(30),
        max: Duration::from_secs(100),
        cap: 50,
        min_requests: 10,
        min_endpoints: 3,
    }
}

/// A cluster whose time is in the test's hand.
struct Cluster {
    outliers: Outliers,
    health: Vec<Health>,
    now: u64,
    events: Vec<Event>,
}

impl Cluster {
    fn of(endpoints: usize, rules: Rules) -> Self {
        let health = (0..endpoints).map(|_| Health::default()).collect();
        Self { outliers: Outliers::new(rules, endpoints), health, now: 0, events: Vec::new() }
    }

    fn see(&mut self, endpoint: usize, times: usize, fared: Fared) {
        for _ in 0..times {
            let (events, now) = (&mut self.events, self.now);
            let mut tell = |event| events.push(event);
            self.outliers.note(endpoint, fared, now, &self.health, &mut tell);
        }
    }

    fn good(&mut self, endpoint: usize, times: usize) {
        self.see(endpoint, times, Fared::Well(1000));
    }

    fn bad(&mut self, endpoint: usize, times: usize) {
        self.see(endpoint, times, Fared::Badly);
    }

    fn pass(&mut self, seconds: u64) {
        self.now += seconds * 1000;
    }

    fn out(&self) -> Vec<usize> {
        let all = self.health.iter().enumerate();
        all.filter(|(_, one)| one.ejected(self.now)).map(|(at, _)| at).collect()
    }

    /// How long the latest ejection lasts, s.
    fn lasts(&self) -> Option<u64> {
        self.events.iter().rev().find_map(|event| match event {
            Event::Ejected { lasts, .. } => Some(lasts / 1000),
            Event::Returned { .. } => None,
        })
    }
}

#[test]
fn failures_in_a_row_eject_for_the_base_time() {
    let mut cluster = Cluster::of(4, rules());
    cluster.bad(1, 4);
    cluster.good(1, 1);
    cluster.bad(1, 4);
    assert_eq!(cluster.out(), NONE);
    cluster.bad(1, 1);
    assert_eq!(cluster.out(), [1]);
    let why = "5 failures in a row".into();
    assert_eq!(cluster.events, [Event::Ejected { endpoint: 1, lasts: 30_000, why }]);
    assert_eq!(cluster.health[1].ejections(), 1);
    cluster.pass(29);
    assert_eq!(cluster.out(), [1]);
    cluster.pass(1);
    assert_eq!(cluster.out(), NONE);
    cluster.good(1, 1);
    assert_eq!(cluster.events[1..], [Event::Returned { endpoint: 1 }]);
}

#[test]
fn what_was_on_its_way_does_not_eject_again() {
    let mut cluster = Cluster::of(4, rules());
    cluster.bad(1, 100);
    assert_eq!(cluster.events.len(), 1);
    cluster.pass(30);
    cluster.bad(1, 4);
    assert_eq!(cluster.out(), NONE, "it begins anew");
}

#[test]
fn ejections_grow_up_to_the_longest_and_good_intervals_shrink_them() {
    let mut cluster = Cluster::of(4, rules());
    for lasts in [30, 60, 90, 100, 100] {
        cluster.bad(1, 5);
        assert_eq!(cluster.lasts(), Some(lasts));
        cluster.pass(lasts);
    }
    // The fifth counted too; three intervals in which it serves leave two.
    for _ in 0..3 {
        cluster.good(1, 1);
        cluster.pass(10);
    }
    cluster.good(0, 1);
    cluster.bad(1, 5);
    assert_eq!(cluster.lasts(), Some(90));
}

#[test]
fn intervals_without_a_request_shrink_nothing() {
    let mut cluster = Cluster::of(4, rules());
    cluster.bad(1, 5);
    cluster.pass(30);
    for _ in 0..5 {
        cluster.good(0, 1);
        cluster.pass(10);
    }
    cluster.bad(1, 5);
    assert_eq!(cluster.lasts(), Some(60));
}

#[test]
fn no_more_than_the_cap_are_out_at_once() {
    let mut cluster = Cluster::of(10, Rules { cap: 30, ..rules() });
    for endpoint in 0..10 {
        cluster.bad(endpoint, 50);
    }
    assert_eq!(cluster.out(), [0, 1, 2]);
    cluster.pass(30);
    // Room again: one failure is enough for those that had their five.
    cluster.bad(7, 1);
    assert_eq!(cluster.out(), [7]);
}

#[test]
fn one_may_always_go_and_the_last_one_never() {
    let mut cluster = Cluster::of(3, Rules { cap: 10, ..rules() });
    cluster.bad(0, 5);
    cluster.bad(1, 5);
    assert_eq!(cluster.out(), [0]);
    let mut cluster = Cluster::of(2, Rules { cap: 100, ..rules() });
    cluster.bad(0, 50);
    cluster.bad(1, 50);
    assert_eq!(cluster.out(), [0]);
    let mut cluster = Cluster::of(1, rules());
    cluster.bad(0, 50);
    assert_eq!(cluster.out(), NONE);
    // One that fails its checks is no other to go to.
    let mut cluster = Cluster::of(2, Rules { cap: 100, ..rules() });
    cluster.health[1].checked(false, 0);
    cluster.bad(0, 50);
    assert_eq!(cluster.out(), NONE);
}

#[test]
fn off_is_off() {
    let mut cluster = Cluster::of(4, Rules { consecutive: 0, ..rules() });
    cluster.bad(1, 1000);
    cluster.pass(20);
    cluster.see(2, 1000, Fared::Well(5_000_000));
    cluster.pass(20);
    cluster.good(0, 1);
    assert_eq!(cluster.events, [] as [Event; 0]);
}

/// Success percentages of 100 requests each, one interval; who is out after it.
fn by_rates(rule: SuccessRate, rates: &[usize]) -> Vec<usize> {
    let quiet = Rules { consecutive: 0, success_rate: Some(rule), cap: 100, ..rules() };
    let mut cluster = Cluster::of(rates.len(), quiet);
    for (endpoint, rate) in rates.iter().enumerate() {
        cluster.good(endpoint, *rate);
        cluster.bad(endpoint, 100 - rate);
    }
    cluster.pass(10);
    assert_eq!(cluster.out(), NONE, "before the interval is over");
    cluster.good(0, 1);
    cluster.out()
}

#[test]
fn a_success_rate_below_the_least_ejects() {
    assert_eq!(by_rates(SuccessRate::Below(90.0), &[100, 89, 90, 95]), [1]);
    assert_eq!(by_rates(SuccessRate::Below(90.0), &[100, 10]), [1]);
    // The worst first, and the last one stays.
    assert_eq!(by_rates(SuccessRate::Below(90.0), &[50, 10, 30]), [1, 2]);
}

#[test]
fn a_success_rate_far_below_the_others_ejects() {
    let rule = SuccessRate::Deviation(1.9);
    assert_eq!(by_rates(rule, &[99, 98, 99, 97, 98, 99, 98, 99, 97, 60]), [9]);
    // All alike: nobody stands out.
    assert_eq!(by_rates(rule, &[50, 50, 50, 50, 50, 50]), NONE);
    // Two cannot be told apart.
    assert_eq!(by_rates(rule, &[100, 0]), NONE);
}

#[test]
fn few_requests_say_nothing_of_a_rate() {
    let rule = Some(SuccessRate::Below(90.0));
    let mut cluster = Cluster::of(3, Rules { consecutive: 0, success_rate: rule, ..rules() });
    cluster.bad(1, 9);
    cluster.pass(10);
    cluster.good(0, 1);
    assert_eq!(cluster.out(), NONE);
    // Of the next interval, not of both together.
    cluster.bad(1, 9);
    cluster.pass(10);
    cluster.good(0, 1);
    assert_eq!(cluster.out(), NONE);
    cluster.bad(1, 10);
    cluster.pass(10);
    cluster.good(0, 1);
    assert_eq!(cluster.out(), [1]);
}

/// Mean latencies in µs, one interval; who is out after it.
fn by_latencies(factor: f64, latencies: &[u64]) -> Vec<usize> {
    let mut cluster = Cluster::of(latencies.len(), Rules { latency: Some(factor), ..rules() });
    for (endpoint, latency) in latencies.iter().enumerate() {
        cluster.see(endpoint, 10, Fared::Well(*latency / 2));
        cluster.see(endpoint, 10, Fared::Well(*latency + *latency / 2));
    }
    cluster.pass(10);
    cluster.good(0, 1);
    cluster.out()
}

#[test]
fn a_latency_far_above_the_others_ejects() {
    assert_eq!(by_latencies(3.0, &[5_000, 6_000, 50_000]), [2]);
    assert_eq!(by_latencies(3.0, &[5_000, 6_000, 15_000]), NONE);
    // Most of them slow: that is how it is.
    assert_eq!(by_latencies(3.0, &[5_000, 50_000, 50_000, 50_000]), NONE);
    // Less than a millisecond apart is no difference.
    assert_eq!(by_latencies(3.0, &[100, 120, 900]), NONE);
    // Nobody to compare with.
    assert_eq!(by_latencies(3.0, &[5_000, 500_000]), NONE);
}

#[test]
fn workers_at_once_never_pass_the_cap() {
    let outliers = Outliers::new(Rules { consecutive: 1, cap: 50, ..rules() }, 8);
    let health: Vec<Health> = (0..8).map(|_| Health::default()).collect();
    std::thread::scope(|scope| {
        for first in 0..4 {
            let (outliers, health) = (&outliers, &health);
            scope.spawn(move || {
                for round in 0..1000 {
                    let endpoint = (first + round) % 8;
                    outliers.note(endpoint, Fared::Badly, 1, health, &mut |_| {});
                }
            });
        }
    });
    assert_eq!(health.iter().filter(|one| one.ejected(1)).count(), 4);
}

#[test]
fn rules_are_said_in_words() {
    let rules =
        Rules { success_rate: Some(SuccessRate::Deviation(1.9)), latency: Some(3.0), ..rules() };
    assert_eq!(
        rules.to_string(),
        "ejected after 5 failures in a row, or a success rate 1.9 standard deviations below \
         the mean, or a latency above 3 times the others', for 30s to 100s, at most 50% at once"
    );
}
