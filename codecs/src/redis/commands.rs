//! The command table: where keys are, what a command asks of its connection.

/// Where a command's first key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstKey {
    /// It has none.
    None,
    /// The word at this position; the command itself is 0.
    At(u8),
    /// After the count of keys, which is at this position (`EVAL script numkeys key`).
    Counted(u8),
    /// After the word `STREAMS`.
    AfterStreams,
    /// `MIGRATE host port key|"" … [KEYS key …]`.
    Migrate,
}

/// What a command asks of the connection it runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: any connection will do.
    Stateless,
    /// It may block: a connection of its own for its time.
    Blocks,
    /// It blocks only where it has the word `BLOCK`.
    MayBlock,
    /// `MULTI`.
    Multi,
    /// `EXEC` or `DISCARD`.
    EndMulti,
    /// `WATCH`.
    Watch,
    /// `UNWATCH`.
    Unwatch,
    /// It changes what the connection is set up as.
    Profile,
    /// `HELLO`: as `Profile` where it has arguments.
    Hello,
    /// Depends on the subcommand of `CLIENT`.
    Client,
    /// Depends on the subcommand of `SCRIPT`.
    Script,
    /// From here on replies do not pair with requests.
    Session,
    /// `QUIT`.
    Quit,
}

/// One command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Command {
    /// Lower case.
    pub name: &'static str,
    /// Where its first key is.
    pub first_key: FirstKey,
    /// What it asks of its connection.
    pub effect: Effect,
    /// It changes no data, so that sending it twice is as good as once.
    pub reads: bool,
    /// Its second word is a subcommand.
    pub container: bool,
}

const fn c(name: &'static str, first_key: FirstKey, effect: Effect, reads: bool) -> Command {
    Command { name, first_key, effect, reads, container: false }
}
const fn r(name: &'static str) -> Command {
    c(name, FirstKey::At(1), Effect::Stateless, true)
}
const fn w(name: &'static str) -> Command {
    c(name, FirstKey::At(1), Effect::Stateless, false)
}
const fn k(name: &'static str, first_key: FirstKey, reads: bool) -> Command {
    c(name, first_key, Effect::Stateless, reads)
}
const fn n(name: &'static str, reads: bool) -> Command {
    c(name, FirstKey::None, Effect::Stateless, reads)
}
const fn e(name: &'static str, effect: Effect) -> Command {
    c(name, FirstKey::None, effect, false)
}
const fn sub(name: &'static str, first_key: FirstKey, effect: Effect) -> Command {
    Command { name, first_key, effect, reads: false, container: true }
}

use Effect::{
    Blocks, Client, EndMulti, Hello, MayBlock, Multi, Quit, Script, Session, Stateless, Unwatch,
    Watch,
};
use FirstKey::{AfterStreams, At, Counted, Migrate};

/// Every command of Redis 7 (and 8's additions to its core), in no particular order.
#[rustfmt::skip]
pub static COMMANDS: &[Command] = &[
    // Strings and bits.
    r("get"), w("set"), k("mget", At(1), true), w("mset"), w("msetnx"), w("append"), w("decr"), w("decrby"),
    w("getdel"), w("getex"), r("getrange"), w("getset"), w("incr"), w("incrby"), w("incrbyfloat"),
    r("lcs"), w("psetex"), w("setex"), w("setnx"), w("setrange"), r("strlen"), r("substr"),
    w("setbit"), r("getbit"), r("bitcount"), r("bitpos"), w("bitfield"), r("bitfield_ro"), k("bitop", At(2), false),
    // Keys.
    w("copy"), w("del"), r("dump"), r("exists"), w("expire"), w("expireat"), r("expiretime"), n("keys", true),
    k("migrate", Migrate, false), w("move"), w("persist"), w("pexpire"), w("pexpireat"), r("pexpiretime"), r("pttl"),
    n("randomkey", false), w("rename"), w("renamenx"), w("restore"), w("restore-asking"), n("scan", true), w("sort"), r("sort_ro"),
    r("touch"), r("ttl"), r("type"), w("unlink"), sub("object", At(2), Stateless), sub("memory", At(2), Stateless),
    // Hashes.
    w("hdel"), r("hexists"), w("hexpire"), w("hexpireat"), r("hexpiretime"), r("hget"), r("hgetall"), w("hgetdel"), w("hgetex"),
    w("hincrby"), w("hincrbyfloat"), r("hkeys"), r("hlen"), r("hmget"), w("hmset"), w("hpersist"), w("hpexpire"), w("hpexpireat"),
    r("hpexpiretime"), r("hpttl"), r("hrandfield"), r("hscan"), w("hset"), w("hsetex"), w("hsetnx"), r("hstrlen"), r("httl"), r("hvals"),
    // Lists.
    r("lindex"), w("linsert"), r("llen"), w("lmove"), k("lmpop", Counted(1), false), w("lpop"), r("lpos"), w("lpush"),
    w("lpushx"), r("lrange"), w("lrem"), w("lset"), w("ltrim"), w("rpop"), w("rpoplpush"), w("rpush"), w("rpushx"),
    c("blpop", At(1), Blocks, false), c("brpop", At(1), Blocks, false), c("blmove", At(1), Blocks, false),
    c("brpoplpush", At(1), Blocks, false), c("blmpop", Counted(2), Blocks, false),
    // Sets.
    w("sadd"), r("scard"), r("sdiff"), w("sdiffstore"), r("sinter"), k("sintercard", Counted(1), true), w("sinterstore"),
    r("sismember"), r("smembers"), r("smismember"), w("smove"), w("spop"), r("srandmember"), w("srem"), r("sscan"), r("sunion"), w("sunionstore"),
    // Sorted sets.
    w("zadd"), r("zcard"), r("zcount"), k("zdiff", Counted(1), true), w("zdiffstore"), w("zincrby"), k("zinter", Counted(1), true),
    k("zintercard", Counted(1), true), w("zinterstore"), r("zlexcount"), k("zmpop", Counted(1), false), r("zmscore"), w("zpopmax"), w("zpopmin"),
    r("zrandmember"), r("zrange"), r("zrangebylex"), r("zrangebyscore"), w("zrangestore"), r("zrank"), w("zrem"),
    w("zremrangebylex"), w("zremrangebyrank"), w("zremrangebyscore"), r("zrevrange"), r("zrevrangebylex"), r("zrevrangebyscore"),
    r("zrevrank"), r("zscan"), r("zscore"), k("zunion", Counted(1), true), w("zunionstore"),
    c("bzpopmin", At(1), Blocks, false), c("bzpopmax", At(1), Blocks, false), c("bzmpop", Counted(2), Blocks, false),
    // Geo, HyperLogLog.
    w("geoadd"), r("geodist"), r("geohash"), r("geopos"), w("georadius"), r("georadius_ro"), w("georadiusbymember"),
    r("georadiusbymember_ro"), r("geosearch"), w("geosearchstore"), w("pfadd"), w("pfcount"), k("pfdebug", At(2), false), w("pfmerge"), n("pfselftest", false),
    // Streams.
    w("xack"), w("xackdel"), w("xadd"), w("xautoclaim"), w("xclaim"), w("xdel"), w("xdelex"), sub("xgroup", At(2), Stateless), sub("xinfo", At(2), Stateless),
    r("xlen"), r("xpending"), r("xrange"), r("xrevrange"), w("xsetid"), w("xtrim"),
    c("xread", AfterStreams, MayBlock, true), c("xreadgroup", AfterStreams, MayBlock, false),
    // Scripts and functions.
    k("eval", Counted(2), false), k("eval_ro", Counted(2), true), k("evalsha", Counted(2), false), k("evalsha_ro", Counted(2), true),
    k("fcall", Counted(2), false), k("fcall_ro", Counted(2), true), sub("function", FirstKey::None, Stateless), sub("script", FirstKey::None, Script),
    // Publishing.
    n("publish", false), k("spublish", At(1), false), sub("pubsub", FirstKey::None, Stateless),
    e("subscribe", Session), e("unsubscribe", Session), e("psubscribe", Session), e("punsubscribe", Session),
    c("ssubscribe", At(1), Session, false), c("sunsubscribe", At(1), Session, false),
    // Transactions.
    e("multi", Multi), e("exec", EndMulti), e("discard", EndMulti), c("watch", At(1), Watch, false), e("unwatch", Unwatch),
    // The connection.
    e("auth", Effect::Profile), e("hello", Hello), e("select", Effect::Profile), e("reset", Effect::Profile), e("quit", Quit),
    e("readonly", Effect::Profile), e("readwrite", Effect::Profile), n("asking", false), n("echo", true), n("ping", true),
    sub("client", FirstKey::None, Client), e("monitor", Session), e("sync", Session), e("psync", Session), e("replconf", Session),
    e("wait", Blocks), e("waitaof", Blocks),
    // The server.
    sub("acl", FirstKey::None, Stateless), n("bgrewriteaof", false), n("bgsave", false), sub("cluster", FirstKey::None, Stateless),
    sub("command", FirstKey::None, Stateless), sub("config", FirstKey::None, Stateless), n("dbsize", true), sub("debug", FirstKey::None, Stateless),
    n("failover", false), n("flushall", false), n("flushdb", false), n("info", true), n("lastsave", true), sub("latency", FirstKey::None, Stateless),
    n("lolwut", true), sub("module", FirstKey::None, Stateless), n("replicaof", false), n("role", true), n("save", false), n("shutdown", false),
    n("slaveof", false), sub("slowlog", FirstKey::None, Stateless), n("swapdb", false), n("time", true),
];

/// Longest name above.
const LONGEST: usize = 20;
const BUCKETS: usize = 1024;

/// Position + 1 in [`COMMANDS`] by hash, with linear probing; built by the compiler.
static INDEX: [u16; BUCKETS] = {
    let mut index = [0u16; BUCKETS];
    let mut at = 0;
    while at < COMMANDS.len() {
        let mut place = hash(COMMANDS[at].name.as_bytes());
        while index[place] != 0 {
            place = (place + 1) % BUCKETS;
        }
        index[place] = at as u16 + 1;
        at += 1;
    }
    index
};

const fn hash(name: &[u8]) -> usize {
    let mut hash = 0xcbf2_9ce4u32;
    let mut at = 0;
    while at < name.len() {
        hash = (hash ^ name[at].to_ascii_lowercase() as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    ((hash >> 16) ^ hash) as usize % BUCKETS
}

/// The command called `name`, in any case.
pub fn find(name: &[u8]) -> Option<&'static Command> {
    if name.len() > LONGEST {
        return None;
    }
    let mut place = hash(name);
    loop {
        let at = usize::from(*INDEX.get(place)?).checked_sub(1)?;
        let command = COMMANDS.get(at)?;
        if command.name.as_bytes().eq_ignore_ascii_case(name) {
            return Some(command);
        }
        place = (place + 1) % BUCKETS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_found_in_any_case_and_once() {
        for command in COMMANDS {
            assert_eq!(find(command.name.to_uppercase().as_bytes()), Some(command));
            assert!(command.name.len() <= LONGEST, "{}", command.name);
            let same = COMMANDS.iter().filter(|other| other.name == command.name);
            assert_eq!(same.count(), 1, "{}", command.name);
        }
        assert_eq!(find(b"nosuchcommand"), None);
        assert_eq!(find(b""), None);
    }
}
