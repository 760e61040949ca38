//! What was answered to requests that name a key of their own: one that comes twice is done once
//! (draft-ietf-httpapi-idempotency-key-header-07).

use super::{
    Store, StoreError,
    sql::{Part, values},
};
use protocol::Digest;

/// How long an answer is kept, in milliseconds: a day.
const KEPT: u64 = 24 * 3_600 * 1_000;
/// How long a request that was begun is held to be at work, in milliseconds. Who began it may have
/// died; then nobody knows whether it was done, and whoever asks again has it done.
const AT_WORK: u64 = 60_000;
/// The most answers kept of an operator; the oldest go first.
const MAX_ANSWERS: u64 = 1_000;

/// How a request with a key stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It is new, and now held to be at work.
    New,
    /// It is at work.
    AtWork,
    /// It was answered so: a status and a body.
    Answered(u16, String),
    /// The key was another request's.
    Another,
}

impl Store {
    /// Looks up a request of an operator by its key, and begins it where it is new. Of several
    /// front-ends one alone does.
    pub fn ask(
        &self,
        operator: &str,
        key: &str,
        request: &Digest,
        now: u64,
    ) -> Result<Asked, StoreError> {
        let (request, of) = (request.to_string(), values![operator, key].to_vec());
        self.write(Part::Machines, |sql| {
            let old = now.saturating_sub(KEPT);
            sql.execute("DELETE FROM answers WHERE at < ?1", values![old])?;
            let found = sql.first(
                "SELECT request, at, status, body FROM answers WHERE operator = ?1 AND key = ?2",
                &of,
            )?;
            if let Some(row) = found {
                if row.get::<String>(0)? != request {
                    return Ok(Asked::Another);
                }
                let body = row.get::<Option<String>>(3)?.unwrap_or_default();
                if let Some(status) = row.get::<Option<u32>>(2)? {
                    return Ok(Asked::Answered(u16::try_from(status).unwrap_or(500), body));
                }
                if now.saturating_sub(row.get::<u64>(1)?) < AT_WORK {
                    return Ok(Asked::AtWork);
                }
                sql.execute("DELETE FROM answers WHERE operator = ?1 AND key = ?2", &of)?;
            }
            sql.execute(
                "DELETE FROM answers WHERE operator = ?1 AND key IN (
                     SELECT key FROM answers WHERE operator = ?1 ORDER BY at DESC, key
                     LIMIT 1000000 OFFSET ?2)",
                values![operator, MAX_ANSWERS - 1],
            )?;
            sql.execute(
                "INSERT INTO answers (operator, key, request, at) VALUES (?1, ?2, ?3, ?4)",
                values![operator, key, request, now],
            )?;
            Ok(Asked::New)
        })
    }

    /// Keeps the answer of a request that was begun; none: it was not done, and may be asked anew.
    pub fn answered(
        &self,
        operator: &str,
        key: &str,
        answer: Option<(u16, &str)>,
    ) -> Result<(), StoreError> {
        self.write(Part::Machines, |sql| {
            match answer {
                Some((status, body)) => sql.execute(
                    "UPDATE answers SET status = ?3, body = ?4 WHERE operator = ?1 AND key = ?2",
                    values![operator, key, u32::from(status), body],
                )?,
                None => sql.execute(
                    "DELETE FROM answers WHERE operator = ?1 AND key = ?2",
                    values![operator, key],
                )?,
            };
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::temporary;

    #[test]
    fn a_request_is_done_once_and_a_key_is_one_requests() {
        let (_folder, store) = temporary();
        let (one, other) = (Digest([1; 32]), Digest([2; 32]));
        assert_eq!(store.ask("anna", "k", &one, 1_000).unwrap(), Asked::New);
        assert_eq!(store.ask("anna", "k", &one, 1_001).unwrap(), Asked::AtWork);
        assert_eq!(store.ask("anna", "k", &other, 1_001).unwrap(), Asked::Another);
        assert_eq!(store.ask("berta", "k", &other, 1_001).unwrap(), Asked::New, "another's key");
        store.answered("anna", "k", Some((200, "{}"))).unwrap();
        let answered = Asked::Answered(200, "{}".into());
        assert_eq!(store.ask("anna", "k", &one, 2_000).unwrap(), answered);
        assert_eq!(store.ask("anna", "k", &one, 1_001 + KEPT).unwrap(), Asked::New, "a day later");
        store.answered("anna", "k", None).unwrap();
        assert_eq!(store.ask("anna", "k", &other, 1_002 + KEPT).unwrap(), Asked::New, "not done");
    }

    #[test]
    fn who_died_at_work_holds_nobody_up_and_answers_are_bounded() {
        let (_folder, store) = temporary();
        let request = Digest([1; 32]);
        assert_eq!(store.ask("anna", "k", &request, 0).unwrap(), Asked::New);
        assert_eq!(store.ask("anna", "k", &request, AT_WORK).unwrap(), Asked::New);
        for at in 0..MAX_ANSWERS + 5 {
            store.ask("anna", &format!("n{at}"), &request, AT_WORK + 1 + at).unwrap();
        }
        let count = store.read(|sql| sql.first("SELECT count(*) FROM answers", &[])).unwrap();
        assert_eq!(count.unwrap().get::<u64>(0).unwrap(), MAX_ANSWERS);
    }
}
