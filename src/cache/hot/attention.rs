//! Repositories that somebody waits for: changes of theirs are told also while they are not in memory.

use std::sync::Arc;

use samovar_registry::Name;

use super::HotSet;

/// As long as this lives, [`HotSet::changed`] tells of the repository's changes, hot or not. It may tell once too often.
#[derive(Debug)]
pub struct Attention {
    set: Arc<HotSet>,
    name: Name,
}

impl HotSet {
    /// Begins to wait for changes of `name`. To be called before looking at what it is to change from, and after
    /// subscribing to [`HotSet::changed`]: then nothing is missed in between.
    pub fn attend(self: &Arc<Self>, name: &Name) -> Attention {
        self.state().attend(name);
        Attention { set: Arc::clone(self), name: name.clone() }
    }
}

impl Drop for Attention {
    fn drop(&mut self) {
        self.set.state().stop_attending(&self.name);
    }
}
