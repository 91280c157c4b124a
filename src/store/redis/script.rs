//! What must happen in one step on the server: Lua scripts, in the Lua and the commands of Redis 6.

use std::sync::LazyLock;

use redis::{Cmd, Script};

/// What [`COMPARE_AND_SET`] answers if it stored.
pub(super) const STORED: i64 = 1;

/// Stores `ARGV[2]` for `ARGV[3]` milliseconds if what is stored is `ARGV[1]`, where nothing at all stands for
/// nothing stored. A value too short to be an entry is nothing: it reads as a miss, and must not be in the way for
/// ever. Answers [`STORED`] if it stored; else, if what is stored is `ARGV[2]` already, how many milliseconds that
/// stays, and never [`STORED`]; else 0.
pub(super) static COMPARE_AND_SET: LazyLock<LuaScript> = LazyLock::new(|| {
    LuaScript::new(
        false,
        r"
local current = redis.call('GET', KEYS[1])
if current and #current < 8 then current = false end
if (current or '') == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  return 1
end
if current == ARGV[2] then return math.max(2, redis.call('PTTL', KEYS[1])) end
return 0
",
    )
});

/// Takes the lease for `ARGV[1]`, or renews it where that is its holder, for `ARGV[2]` milliseconds. Answers 1 if it
/// has it now.
pub(super) static TAKE_LEASE: LazyLock<LuaScript> = LazyLock::new(|| {
    LuaScript::new(
        true,
        r"
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
",
    )
});

/// Gives the lease back where `ARGV[1]` is its holder.
pub(super) static GIVE_BACK_LEASE: LazyLock<LuaScript> = LazyLock::new(|| {
    LuaScript::new(
        true,
        r"
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
",
    )
});

/// A script, and the hash that servers keep it under.
pub(super) struct LuaScript {
    text: &'static str,
    hash: String,
    may_run_twice: bool,
}

impl LuaScript {
    fn new(may_run_twice: bool, text: &'static str) -> Self {
        Self { text, hash: Script::new(text).get_hash().to_owned(), may_run_twice }
    }
}

/// A script with the key it is about, and its arguments.
pub(super) struct Invocation {
    script: &'static LuaScript,
    key: String,
    arguments: Vec<Vec<u8>>,
}

impl Invocation {
    pub(super) fn new(script: &'static LuaScript, key: String, arguments: Vec<Vec<u8>>) -> Self {
        Self { script, key, arguments }
    }

    /// Whether it does no harm to run it again when nobody knows whether it ran.
    pub(super) fn may_run_twice(&self) -> bool {
        self.script.may_run_twice
    }

    /// Runs a script that the server knows; it answers `NOSCRIPT` where it does not, and has done nothing.
    pub(super) fn by_hash(&self) -> Cmd {
        self.command("EVALSHA", &self.script.hash)
    }

    /// Runs the script, and has the server keep it.
    pub(super) fn whole(&self) -> Cmd {
        self.command("EVAL", self.script.text)
    }

    /// The number of keys, here always one, is what tells a cluster which of the arguments decides where to run it.
    fn command(&self, name: &str, script: &str) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(script).arg(1).arg(&self.key).arg(&self.arguments);
        command
    }
}
