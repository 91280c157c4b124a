//! Many commands in few pipelines.

use redis::{Cmd, Pipeline};

/// Commands in one pipeline.
const MOST_COMMANDS_IN_PIPELINE: usize = 500;
/// Bytes of keys and values in one pipeline, unless its only command has more.
const MOST_BYTES_IN_PIPELINE: usize = 1024 * 1024;

/// Puts `commands`, each with about how many bytes it has, into bounded pipelines, keeping their order.
pub(super) fn pipelines(
    commands: impl Iterator<Item = (Cmd, usize)> + Send,
) -> impl Iterator<Item = Pipeline> + Send {
    let mut commands = commands.peekable();
    std::iter::from_fn(move || {
        let (first, mut bytes) = commands.next()?;
        let mut pipeline = redis::pipe();
        pipeline.add_command(first);
        while pipeline.len() < MOST_COMMANDS_IN_PIPELINE {
            let Some((command, more)) = commands.next_if(|(_, more)| bytes + more <= MOST_BYTES_IN_PIPELINE)
            else {
                break;
            };
            bytes += more;
            pipeline.add_command(command);
        }
        Some(pipeline)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(commands: usize, bytes_each: usize) -> Vec<usize> {
        let commands = (0..commands).map(|_| (redis::cmd("PING"), bytes_each));
        pipelines(commands).map(|pipeline| pipeline.len()).collect()
    }

    #[test]
    fn pipelines_are_bounded_by_commands_and_by_bytes() {
        assert_eq!(lengths(0, 1), Vec::<usize>::new());
        assert_eq!(lengths(1, 1), [1]);
        assert_eq!(lengths(MOST_COMMANDS_IN_PIPELINE, 1), [MOST_COMMANDS_IN_PIPELINE]);
        assert_eq!(lengths(MOST_COMMANDS_IN_PIPELINE + 1, 1), [MOST_COMMANDS_IN_PIPELINE, 1]);
        assert_eq!(lengths(5, MOST_BYTES_IN_PIPELINE / 2), [2, 2, 1]);
        assert_eq!(lengths(2, MOST_BYTES_IN_PIPELINE + 1), [1, 1], "what is too large goes alone");
    }
}
