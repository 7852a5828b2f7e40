//! One check: a connection, the protocol's words, and its judgement on the answers.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use polyport_codecs::health::{Answered, Say, Verdict};
use polyport_codecs::{Body, Decoder, Head, Kind, Metadata, Side, Step};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::checks::Question;
use crate::snapshot::{Cluster, Endpoint};
use crate::streams::{client, pipe};
use crate::worker::dial::dial;
use crate::worker::wire::Wire;

/// Bytes of an answer's body that are kept for its judge.
const BODY: usize = 4 << 10;

/// Bytes of an answer that are waited for before something of it must be understood.
const ANSWER: usize = 128 << 10;

/// Rounds of one check, at most: no protocol needs nearly as many.
const ROUNDS: usize = 8;

/// How long a connection that carries streams is kept beyond the next check.
const SPARE: Duration = Duration::from_secs(10);

/// Why a check was not passed.
enum Failure {
    /// The connection ended or broke before anything was answered on it.
    Lost(String),
    /// All else.
    Ill(String),
}

impl Failure {
    fn why(self) -> String {
        match self {
            Self::Lost(why) | Self::Ill(why) => why,
        }
    }
}

/// Whoever asks one endpoint, with what is kept from check to check.
pub(super) struct Asker {
    kept: Option<Line>,
    sessions: Option<Rc<client::Sessions>>,
    every: Duration,
}

/// A connection, and what was read of it too far.
struct Line {
    wire: Wire,
    decoder: Box<dyn Decoder>,
    input: BytesMut,
    meta: Metadata,
}

impl Asker {
    pub(super) fn new(every: Duration) -> Self {
        Self { kept: None, sessions: None, every }
    }

    /// Makes a check; why it was not passed. It may be given up at any await: what was
    /// kept is then gone, and the next one begins afresh.
    pub(super) async fn ask(
        &mut self,
        cluster: &Cluster,
        endpoint: &Endpoint,
        question: Option<&Question>,
    ) -> Result<(), String> {
        let Some(question) = question else {
            return reach(cluster, endpoint).await.map(drop);
        };
        if question.streams {
            return self.ask_by_stream(cluster, endpoint, question).await;
        }
        if let Some(mut line) = self.kept.take() {
            match line.talk(question, &endpoint.host).await {
                Ok(keep) => {
                    self.kept = keep.then_some(line);
                    return Ok(());
                }
                // It may only have been idle for too long.
                Err(Failure::Lost(_)) => {}
                Err(Failure::Ill(why)) => return Err(why),
            }
        }
        let mut line = Line::new(reach(cluster, endpoint).await?, question);
        let keep = line.talk(question, &endpoint.host).await.map_err(Failure::why)?;
        self.kept = keep.then_some(line);
        Ok(())
    }

    async fn ask_by_stream(
        &mut self,
        cluster: &Cluster,
        endpoint: &Endpoint,
        question: &Question,
    ) -> Result<(), String> {
        // Kept only where this check is passed.
        let sessions = self
            .sessions
            .take()
            .unwrap_or_else(|| client::Sessions::new(self.every + SPARE, cluster.tls.is_some()));
        let again = async || dial(cluster, endpoint, None).await;
        sessions.reach(again).await.map_err(|error| format!("no connection: {error}"))?;
        let (near, far) = pipe::pair();
        let carried = async {
            client::carry(near, sessions.clone(), endpoint.host.clone(), again).await;
            // Its end of the pipe tells the rest.
            std::future::pending::<()>().await;
        };
        let mut line = Line::new(Wire::Stream(far), question);
        tokio::select! {
            biased;
            done = line.talk(question, &endpoint.host) => done.map_err(Failure::why)?,
            () = carried => return Err("no connection".into()),
        };
        self.sessions = Some(sessions);
        Ok(())
    }
}

async fn reach(cluster: &Cluster, endpoint: &Endpoint) -> Result<Wire, String> {
    let wire = dial(cluster, endpoint, None).await;
    wire.map_err(|error| format!("no connection: {error}"))
}

impl Line {
    fn new(wire: Wire, question: &Question) -> Self {
        let (input, meta) = (BytesMut::new(), Metadata::default());
        Self { wire, decoder: question.codec.decoder(Side::Reply), input, meta }
    }

    /// All rounds; whether the connection can be kept.
    async fn talk(&mut self, question: &Question, host: &str) -> Result<bool, Failure> {
        let mut out = Vec::new();
        let mut clean = true;
        for round in 0..ROUNDS {
            out.clear();
            match question.check.say(round, host, &mut out) {
                Say::Over { keep } => {
                    // The verdict stands, whatever becomes of last words.
                    let _ = self.say(&out).await;
                    return Ok(keep && clean);
                }
                Say::Ask(to) => {
                    self.decoder.expect(to);
                    self.say(&out).await.map_err(|error| Failure::Lost(lost(&error)))?;
                    let (verdict, all) = self.judged(question, round).await.map_err(|failure| {
                        // What was well before and is cut now is no idle connection.
                        if round > 0 { Failure::Ill(failure.why()) } else { failure }
                    })?;
                    clean &= all;
                    match verdict {
                        Verdict::Well => {}
                        Verdict::Enough => return Ok(false),
                        Verdict::Ill(why) => return Err(Failure::Ill(why)),
                    }
                }
            }
        }
        Ok(false)
    }

    async fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.wire.write_all(bytes).await?;
        self.wire.flush().await
    }

    /// Reads up to the answer that counts; the verdict, and whether all of it was read.
    async fn judged(
        &mut self,
        question: &Question,
        round: usize,
    ) -> Result<(Verdict, bool), Failure> {
        loop {
            let head = self.head().await?;
            let bytes = self.input.split_to(head.len.min(self.input.len()));
            let mut body = Vec::new();
            match head.kind {
                Kind::Response | Kind::HeartbeatReply | Kind::Control => {
                    let wanted = question.check.wants_body();
                    if wanted {
                        self.body(head.body, &mut body).await?;
                    }
                    let answer = Answered { head: &head, bytes: &bytes, body: &body };
                    let verdict = question.check.judge(round, &answer);
                    return Ok((verdict, (wanted || head.body == Body::None) && !head.last));
                }
                Kind::GoAway => return Err(Failure::Ill("it says that it is going away".into())),
                // A server may have a heartbeat of its own on a connection that is kept.
                Kind::Heartbeat => {
                    self.body(head.body, &mut body).await?;
                    let mut out = Vec::new();
                    question.protocol.answer(&head, &bytes, &mut out);
                    self.say(&out).await.map_err(|error| Failure::Lost(lost(&error)))?;
                }
                Kind::Interim | Kind::Push | Kind::Request | Kind::Oneway | Kind::Local => {
                    self.body(head.body, &mut body).await?;
                }
            }
        }
    }

    async fn head(&mut self) -> Result<Head, Failure> {
        loop {
            match self.decode()? {
                Step::Head(head) => return Ok(head),
                Step::Need(need) => self.more(need).await?,
                Step::Body(_) | Step::Framing(_) | Step::End => {
                    return Err(Failure::Ill("its answer has no head".into()));
                }
            }
        }
    }

    /// Reads over a body; its first bytes go to `kept`.
    async fn body(&mut self, body: Body, kept: &mut Vec<u8>) -> Result<(), Failure> {
        let mut keep = |bytes: &[u8]| {
            let room = BODY.saturating_sub(kept.len()).min(bytes.len());
            kept.extend_from_slice(bytes.get(..room).unwrap_or_default());
        };
        match body {
            Body::None => Ok(()),
            Body::Length(mut left) => {
                while left > 0 {
                    if self.input.is_empty() {
                        self.more(1).await?;
                    }
                    let here = usize::try_from(left).unwrap_or(usize::MAX).min(self.input.len());
                    keep(&self.input.split_to(here));
                    left -= here as u64;
                }
                Ok(())
            }
            Body::Steps => loop {
                match self.decode()? {
                    Step::Body(count) => keep(&self.input.split_to(count.min(self.input.len()))),
                    Step::Framing(count) => self.input.advance(count.min(self.input.len())),
                    Step::End => return Ok(()),
                    Step::Need(need) => self.more(need).await?,
                    Step::Head(_) => return Err(Failure::Ill("its answer has no end".into())),
                }
            },
        }
    }

    fn decode(&mut self) -> Result<Step, Failure> {
        let step = self.decoder.decode(&self.input, &mut self.meta);
        step.map_err(|error| Failure::Ill(format!("it answers something else: {error}")))
    }

    /// Reads until there are so many bytes.
    async fn more(&mut self, need: usize) -> Result<(), Failure> {
        if need > ANSWER {
            return Err(Failure::Ill("its answer is too long".into()));
        }
        while self.input.len() < need {
            let begun = !self.input.is_empty();
            let why = match self.wire.read_buf(&mut self.input).await {
                Ok(0) => "it closes the connection".to_owned(),
                Ok(_) => continue,
                Err(error) => lost(&error),
            };
            return Err(if begun { Failure::Ill(why) } else { Failure::Lost(why) });
        }
        Ok(())
    }
}

fn lost(error: &io::Error) -> String {
    format!("the connection breaks: {error}")
}
