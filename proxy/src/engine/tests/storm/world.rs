//! Clients and servers, and the sockets between them and the engine.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;

use polyport_codecs::{Exchange, Protocol};
use rand::Rng;
use rand::rngs::SmallRng;

use super::super::toy::{Toy, id_of, number_of};
use super::config::{Weather, chance};
use crate::engine::state::{ConnId, UpId};
use crate::engine::{Engine, Net, Peer, Written};

/// Requests of each client.
const REQUESTS: u64 = 12;

/// The peer's half of one connection.
#[derive(Default)]
pub(super) struct Pipe {
    pub(super) to_peer: Vec<u8>,
    pub(super) to_engine: VecDeque<u8>,
    pub(super) room: usize,
    pub(super) closed: bool,
}

pub(super) struct Client {
    pub(super) port: u16,
    pub(super) conn: ConnId,
    pub(super) pipe: Pipe,
    pub(super) script: VecDeque<(u64, bool, Vec<u8>)>,
    /// Whether what was asked on this connection has been answered; in order.
    pub(super) waiting: VecDeque<u64>,
    pub(super) in_order: bool,
    /// Bytes of an answer's body that are to come.
    pub(super) body: usize,
    /// It left, or said that it has no more to say.
    pub(super) left: bool,
    pub(super) ended: bool,
    /// It was asked to leave.
    pub(super) told: bool,
    pub(super) lives: usize,
}

pub(super) struct Server {
    pub(super) pipe: Pipe,
    pub(super) connecting: bool,
    /// It never comes about.
    pub(super) hangs: bool,
    pub(super) mute: bool,
    pub(super) replies: VecDeque<(u64, Vec<u8>)>,
    pub(super) in_order: bool,
}

#[derive(Default)]
pub(super) struct World {
    pub(super) clients: Vec<Client>,
    pub(super) servers: BTreeMap<usize, (UpId, Server)>,
    /// How often each request was done.
    pub(super) done: HashMap<u64, usize>,
    pub(super) asked: u64,
    pub(super) answered: u64,
    pub(super) errors: u64,
    pub(super) cut: u64,
    /// What was asked on a connection that then ended.
    pub(super) lost: Vec<u64>,
}

impl World {
    pub(super) fn pipe(&mut self, conn: ConnId) -> Option<&mut Pipe> {
        match conn {
            ConnId::Down(_) => {
                let mut clients = self.clients.iter_mut();
                clients.find(|client| client.conn == conn && !client.left).map(|c| &mut c.pipe)
            }
            ConnId::Up(id) => {
                let server = self.servers.get_mut(&id.index()).filter(|(had, _)| *had == id);
                server.map(|(_, server)| &mut server.pipe)
            }
        }
    }
}

impl Net for World {
    fn write(&mut self, conn: ConnId, first: &[u8], second: &[u8]) -> Written {
        let Some(pipe) = self.pipe(conn) else { return Written::Failed };
        if pipe.room == 0 {
            return Written::Blocked;
        }
        let all = [first, second].concat();
        let count = all.len().min(pipe.room);
        pipe.room -= count;
        pipe.to_peer.extend_from_slice(&all[..count]);
        Written::Bytes(count)
    }
}

pub(super) fn script(
    protocol: &Toy,
    client: u64,
    calm: bool,
    rng: &mut SmallRng,
) -> VecDeque<(u64, bool, Vec<u8>)> {
    let exchange = protocol.exchange();
    let ordered = matches!(exchange, Exchange::Ordered { .. });
    let mut script = VecDeque::new();
    let mut held = 0;
    for n in 0..REQUESTS {
        let id = client << 32 | n;
        let mut body = 0;
        let draw = if held > 0 { 100 } else { rng.random_range(0..100) };
        let what = match draw {
            _ if held > 0 => {
                held -= 1;
                if held == 0 { "E".to_owned() } else { "x".to_owned() }
            }
            _ if n == 0 => "x".to_owned(),
            0..10 => {
                body = rng.random_range(1..20_000);
                format!("{}{body}", if rng.random() { 'L' } else { 'M' })
            }
            10..20 => format!("T{}", rng.random_range(1..400) + if calm { 100_000 } else { 0 }),
            20..30 => "O".to_owned(),
            30..40 => "N".to_owned(),
            40..45 if ordered && n + 1 < REQUESTS => {
                // The last of them gives the connection back.
                held = rng.random_range(1..4).min(REQUESTS - 1 - n);
                "H".to_owned()
            }
            // In calm it would keep its connection for ever.
            45..48 if ordered && !calm && n > REQUESTS / 2 => "J".to_owned(),
            _ => "x".to_owned(),
        };
        let mut bytes = format!("{id:016x}:{what};{id:016x}\n").into_bytes();
        bytes.resize(bytes.len() + body, b'b');
        let last = what == "J";
        script.push_back((id, what == "O", bytes));
        if last {
            break;
        }
    }
    script
}

pub(super) fn accept(engine: &mut Engine, port: u16) -> Option<ConnId> {
    let (source, local) = (([127, 0, 0, 1], port).into(), ([127, 0, 0, 1], 1).into());
    engine.accept(0, Rc::new(Peer::plain(source, local)))
}

pub(super) fn client_step(
    world: &mut World,
    at: usize,
    engine: &mut Engine,
    rng: &mut SmallRng,
    weather: Weather,
) {
    let client = &mut world.clients[at];
    if client.left {
        return;
    }
    loop {
        let count = client.body.min(client.pipe.to_peer.len());
        client.pipe.to_peer.drain(..count);
        client.body -= count;
        if client.body > 0 {
            break;
        }
        let Some(end) = client.pipe.to_peer.iter().position(|byte| *byte == b'\n') else { break };
        let line: Vec<u8> = client.pipe.to_peer.drain(..=end).collect();
        let id = id_of(&line);
        if line[16] == b'~' {
            client.told = true;
            continue;
        }
        let place = client.waiting.iter().position(|had| *had == id);
        let shown = String::from_utf8_lossy(&line).into_owned();
        let Some(place) = place else { panic!("an answer too many: {shown}") };
        assert!(place == 0 || !client.in_order, "out of turn: {shown} {:x?}", client.waiting);
        client.waiting.remove(place);
        if line[16] == b'!' {
            world.errors += 1;
            continue;
        }
        world.answered += 1;
        client.told |= line[16] == b'.';
        // Whose answer it is stands in its text, too.
        assert!(shown.trim_end().ends_with(&format!(";{id:016x}")), "another's answer: {shown}");
        if line[17] == b'L' {
            client.body = number_of(&line) as usize;
        }
    }
    if client.pipe.closed {
        // Of an answer that was cut off, the rest never comes.
        client.pipe.to_peer.clear();
        if client.lives > 0 {
            client.lives -= 1;
            world.cut += client.waiting.len() as u64;
            world.lost.extend(client.waiting.drain(..));
            engine.broken(client.conn);
            (client.pipe, client.body) = (Pipe::default(), 0);
            (client.ended, client.told) = (false, false);
            match accept(engine, client.port) {
                Some(conn) => client.conn = conn,
                None => client.left = true,
            }
        }
        return;
    }
    if weather.leaves > 0 && rng.random_ratio(weather.leaves, 1000) {
        client.left = true;
        engine.broken(client.conn);
        return;
    }
    let silent = client.waiting.is_empty() && client.pipe.to_engine.is_empty();
    if client.told && silent && client.body == 0 {
        // All that it asked is answered: it goes.
        engine.broken(client.conn);
        (client.pipe, client.told) = (Pipe::default(), false);
        match accept(engine, client.port) {
            Some(conn) => client.conn = conn,
            None => client.left = true,
        }
        return;
    }
    if client.pipe.to_engine.is_empty() && !client.told && chance(rng, 30) {
        for _ in 0..rng.random_range(1..6) {
            let Some((id, oneway, bytes)) = client.script.pop_front() else { break };
            world.asked += 1;
            if !oneway {
                client.waiting.push_back(id);
            }
            client.pipe.to_engine.extend(bytes);
        }
    }
    let conn = client.conn;
    if chance(rng, 60) {
        client.pipe.room = client.pipe.room.max(rng.random_range(1..3000));
    }
    if engine.is_blocked(conn) && client.pipe.room > 0 {
        engine.writable(conn);
    }
    let count = rng.random_range(1..4000).min(client.pipe.to_engine.len());
    if count > 0 && engine.wants_read(conn) {
        let bytes: Vec<u8> = client.pipe.to_engine.drain(..count).collect();
        engine.received(conn, &bytes, world);
    }
    let client = &mut world.clients[at];
    let silent = client.script.is_empty() && client.pipe.to_engine.is_empty();
    if silent && !weather.calm && !client.ended && engine.wants_read(conn) && chance(rng, 3) {
        client.ended = true;
        engine.ended(conn);
    }
}

pub(super) fn server_step(
    world: &mut World,
    up: usize,
    engine: &mut Engine,
    rng: &mut SmallRng,
    weather: Weather,
    now: u64,
) {
    let Some((id, server)) = world.servers.get_mut(&up) else { return };
    let (id, conn) = (*id, ConnId::Up(*id));
    let reset = weather.resets > 0 && rng.random_ratio(weather.resets, 1000);
    if server.connecting {
        if server.hangs || !chance(rng, 30) {
            return;
        }
        if reset || (weather.resets > 0 && chance(rng, 10)) {
            world.servers.remove(&up);
            engine.connect_failed(id);
        } else {
            server.connecting = false;
            engine.connected(id);
        }
        return;
    }
    if reset {
        world.servers.remove(&up);
        if rng.random() {
            engine.ended(conn)
        } else {
            engine.broken(conn)
        }
        return;
    }
    loop {
        let asked = &server.pipe.to_peer;
        let Some(end) = asked.iter().position(|byte| *byte == b'\n') else { break };
        let line = &asked[..end];
        let body = if matches!(line[17], b'L' | b'M') { number_of(line) as usize } else { 0 };
        if asked.len() < end + 1 + body {
            break;
        }
        let what = line[17];
        let own = line.iter().position(|byte| *byte == b';').expect("an id") + 1;
        let name = String::from_utf8_lossy(&line[own..]).into_owned();
        let wire = String::from_utf8_lossy(&line[..16]).into_owned();
        assert!(asked[end + 1..end + 1 + body].iter().all(|byte| *byte == b'b'), "torn");
        server.pipe.to_peer.drain(..end + 1 + body);
        let done = world.done.entry(u64::from_str_radix(&name, 16).expect("an id")).or_default();
        *done += 1;
        assert!(
            *done == 1 || weather.mirrored || !matches!(what, b'M' | b'N'),
            "{name} was done {done} times"
        );
        if weather.silences > 0 && rng.random_ratio(weather.silences, 1000) {
            server.mute = true;
        }
        if server.mute || what == b'O' {
            continue;
        }
        let sign = if rng.random_ratio(weather.refusals, 1000) { '?' } else { '=' };
        let mut reply = format!("{wire}{sign}R;{name}\n").into_bytes();
        if chance(rng, 10) {
            let size = rng.random_range(1..12_000);
            reply = format!("{wire}{sign}L{size};{name}\n").into_bytes();
            reply.resize(reply.len() + size, b'c');
        }
        let due = now + rng.random_range(0..weather.thinks);
        server.replies.push_back((due, reply));
    }
    for _ in 0..server.replies.len() {
        let Some((due, reply)) = server.replies.pop_front() else { break };
        if due <= now {
            server.pipe.to_engine.extend(reply);
        } else if server.in_order {
            server.replies.push_front((due, reply));
            break;
        } else {
            server.replies.push_back((due, reply));
        }
    }
    server.pipe.room = server.pipe.room.max(rng.random_range(1..3000));
    if engine.is_blocked(conn) {
        engine.writable(conn);
    }
    let Some((_, server)) = world.servers.get_mut(&up) else { return };
    let count = rng.random_range(1..2000).min(server.pipe.to_engine.len());
    if count > 0 && engine.wants_read(conn) {
        let bytes: Vec<u8> = server.pipe.to_engine.drain(..count).collect();
        engine.received(conn, &bytes, world);
    }
}
