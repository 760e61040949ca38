//! Browsers in which an operator signed in.

use super::{
    Store, StoreError,
    sql::{Part, values},
};
use protocol::Digest;

/// How long a session lasts, in milliseconds: a day's work.
pub const LASTS: u64 = 12 * 3_600 * 1_000;
/// The most sessions of one operator; the oldest end first.
const MAX_SESSIONS: u64 = 16;

impl Store {
    /// Begins a session, of which only the digest is kept.
    pub fn begin_session(
        &self,
        digest: &Digest,
        operator: &str,
        now: u64,
    ) -> Result<(), StoreError> {
        self.write(Part::Machines, |sql| {
            sql.execute("DELETE FROM sessions WHERE began < ?1", values![over(now)])?;
            sql.execute(
                "DELETE FROM sessions WHERE operator = ?1 AND digest IN (
                     SELECT digest FROM sessions WHERE operator = ?1 ORDER BY began DESC, digest
                     LIMIT 1000000 OFFSET ?2)",
                values![operator, MAX_SESSIONS - 1],
            )?;
            sql.execute(
                "INSERT INTO sessions (digest, operator, began) VALUES (?1, ?2, ?3)",
                values![digest.to_string(), operator, now],
            )?;
            Ok(())
        })
    }

    /// Whose session that is. It ends with its time, and at once with its operator's token.
    pub fn session(&self, digest: &Digest, now: u64) -> Result<Option<String>, StoreError> {
        let select = "SELECT sessions.operator FROM sessions
             JOIN operators ON operators.name = sessions.operator AND operators.made <= sessions.began
             WHERE sessions.digest = ?1 AND sessions.began >= ?2";
        let row = self.read(|sql| sql.first(select, values![digest.to_string(), over(now)]))?;
        row.map(|row| row.get(0)).transpose()
    }

    /// Ends a session.
    pub fn end_session(&self, digest: &Digest) -> Result<(), StoreError> {
        let delete = "DELETE FROM sessions WHERE digest = ?1";
        self.write(Part::Machines, |sql| sql.execute(delete, values![digest.to_string()]).map(drop))
    }
}

/// What began before is over.
fn over(now: u64) -> u64 {
    now.saturating_sub(LASTS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::temporary;

    #[test]
    fn a_session_ends_with_its_time_and_with_its_operator() {
        let (_folder, store) = temporary();
        let (token, session) = (Digest([1; 32]), Digest([2; 32]));
        store.add_operator("anna", &token, 5).unwrap();
        store.begin_session(&session, "anna", 10).unwrap();
        let whose = |now| store.session(&session, now).unwrap();
        assert_eq!(whose(10 + LASTS).as_deref(), Some("anna"));
        assert_eq!(whose(11 + LASTS), None);
        store.remove_operator("anna").unwrap();
        assert_eq!(whose(11), None);
        store.add_operator("anna", &token, 12).unwrap();
        assert_eq!(whose(13), None, "another anna's session it is not");
        store.begin_session(&Digest([3; 32]), "anna", 14).unwrap();
        store.end_session(&Digest([3; 32])).unwrap();
        assert_eq!(store.session(&Digest([3; 32]), 15).unwrap(), None);
    }

    #[test]
    fn sessions_are_bounded_and_the_oldest_end() {
        let (_folder, store) = temporary();
        store.add_operator("anna", &Digest([1; 32]), 0).unwrap();
        let session = |n: u64| Digest([n as u8; 32]);
        for n in 0..=MAX_SESSIONS {
            store.begin_session(&session(n), "anna", 10 + n).unwrap();
        }
        assert_eq!(store.session(&session(0), 100).unwrap(), None);
        assert!(store.session(&session(1), 100).unwrap().is_some());
    }
}
