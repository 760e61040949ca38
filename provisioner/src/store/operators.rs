//! Operators in the store: names, and digests of their tokens.

use super::{
    Store, StoreError,
    sql::{Part, values},
};
use protocol::Digest;

/// The most operators.
pub(super) const MAX_OPERATORS: u64 = 64;
/// The one that is made at the first start.
pub const FIRST_OPERATOR: &str = "first";

/// What became of a new operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is one now.
    Yes,
    /// There is one of that name.
    Taken,
    /// There are as many as may be.
    Full,
}

impl Store {
    /// Makes the first operator, where there never was one. Of several front-ends that start at once
    /// one alone does.
    pub fn add_first_operator(&self, digest: &Digest, now: u64) -> Result<bool, StoreError> {
        self.write(Part::Machines, |sql| {
            if sql.exists("SELECT 1 FROM operators", &[])? {
                return Ok(false);
            }
            sql.execute(INSERT, values![FIRST_OPERATOR, digest.to_string(), now])?;
            Ok(true)
        })
    }

    /// Makes an operator.
    pub fn add_operator(&self, name: &str, digest: &Digest, now: u64) -> Result<Added, StoreError> {
        self.write(Part::Machines, |sql| {
            if sql.exists("SELECT 1 FROM operators WHERE name = ?1", values![name])? {
                return Ok(Added::Taken);
            }
            let count = sql.first("SELECT count(*) FROM operators", &[])?;
            if count.map_or(Ok(0), |row| row.get::<u64>(0))? >= MAX_OPERATORS {
                return Ok(Added::Full);
            }
            sql.execute(INSERT, values![name, digest.to_string(), now])?;
            Ok(Added::Yes)
        })
    }

    /// Whose token that is.
    pub fn operator(&self, digest: &Digest) -> Result<Option<String>, StoreError> {
        let select = "SELECT name FROM operators WHERE digest = ?1";
        let row = self.read(|sql| sql.first(select, values![digest.to_string()]))?;
        row.map(|row| row.get(0)).transpose()
    }

    /// Names, and when they were made, milliseconds since 1970.
    pub fn operators(&self) -> Result<Vec<(String, u64)>, StoreError> {
        let rows =
            self.read(|sql| sql.query("SELECT name, made FROM operators ORDER BY name", &[]))?;
        rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
    }

    /// From now on that token is nobody's. False where there is no operator of that name.
    pub fn remove_operator(&self, name: &str) -> Result<bool, StoreError> {
        let delete = "DELETE FROM operators WHERE name = ?1";
        Ok(self.write(Part::Machines, |sql| sql.execute(delete, values![name]))? > 0)
    }
}

const INSERT: &str = "INSERT INTO operators (name, digest, made) VALUES (?1, ?2, ?3)";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::temporary;

    #[test]
    fn the_first_is_made_once_and_a_revoked_token_is_nobodys() {
        let (_folder, store) = temporary();
        let token = |n| Digest([n; 32]);
        assert!(store.add_first_operator(&token(1), 5).unwrap());
        assert!(!store.add_first_operator(&token(2), 6).unwrap());
        assert_eq!(store.operator(&token(1)).unwrap().as_deref(), Some(FIRST_OPERATOR));
        assert_eq!(store.operator(&token(2)).unwrap(), None);
        assert_eq!(store.add_operator("anna", &token(3), 7).unwrap(), Added::Yes);
        assert_eq!(store.add_operator("anna", &token(4), 8).unwrap(), Added::Taken);
        assert!(store.remove_operator("anna").unwrap());
        assert!(!store.remove_operator("anna").unwrap());
        assert_eq!(store.operator(&token(3)).unwrap(), None);
        assert_eq!(store.operators().unwrap(), [(FIRST_OPERATOR.to_string(), 5)]);
        for n in 1..MAX_OPERATORS {
            let name = format!("operator-{n}");
            assert_eq!(store.add_operator(&name, &token(n as u8 + 9), 9).unwrap(), Added::Yes);
        }
        assert_eq!(store.add_operator("more", &token(8), 9).unwrap(), Added::Full);
    }
}
