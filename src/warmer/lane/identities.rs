//! As whom the repositories of a lane are asked for: a number for each set of credentials, so that those with the same ones
//! take turns with those with others.

use samovar_registry::credentials::CredentialChain;

use crate::warmer::queue::Identity;

/// The sets of credentials that repositories of the lane have now, as many as there are different ones.
#[derive(Debug, Default)]
pub(super) struct Identities {
    known: Vec<Known>,
    /// Numbers are not given twice.
    next: Identity,
}

#[derive(Debug)]
struct Known {
    credentials: CredentialChain,
    number: Identity,
    repositories: usize,
}

impl Identities {
    /// The number of these credentials, which another repository has from now on.
    pub(super) fn enter(&mut self, credentials: &CredentialChain) -> Identity {
        if let Some(known) = self.known.iter_mut().find(|known| known.credentials == *credentials) {
            known.repositories += 1;
            return known.number;
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.known.push(Known { credentials: credentials.clone(), number, repositories: 1 });
        number
    }

    /// A repository has other credentials, or is no longer watched.
    pub(super) fn leave(&mut self, number: Identity) {
        let Some(position) = self.known.iter().position(|known| known.number == number) else { return };
        self.known[position].repositories -= 1;
        if self.known[position].repositories == 0 {
            self.known.swap_remove(position);
        }
    }
}

#[cfg(test)]
mod tests {
    use samovar_registry::Secret;
    use samovar_registry::credentials::Credentials;

    use super::*;

    #[test]
    fn the_same_credentials_have_the_same_number_as_long_as_anybody_has_them() {
        let login = |username: &str| {
            CredentialChain::from(Credentials::Basic {
                username: username.to_owned(),
                password: Secret::new("p"),
                provenance: "x".into(),
            })
        };
        let mut identities = Identities::default();
        let alice = identities.enter(&login("alice"));
        let bob = identities.enter(&login("bob"));
        assert_ne!(alice, bob);
        assert_eq!(identities.enter(&login("alice")), alice);
        identities.leave(alice);
        assert_eq!(identities.enter(&login("alice")), alice, "another repository still has them");
        identities.leave(alice);
        identities.leave(alice);
        identities.leave(bob);
        assert!(identities.known.is_empty());
    }
}
