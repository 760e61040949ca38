//! The trust root: the header that everything else is proven from.

use super::{
    error::{Lie, VerifyError},
    fetch, light,
};
use crate::{client::Client, rpc::TxHash};
use protocol::ChainId;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tendermint_light_client_verifier::types::LightBlock;

/// How long a pinned header's validators are believed. There is no unbonding yet that would bound
/// it from above; two weeks is what chains of three weeks' unbonding use.
pub const DEFAULT_TRUSTING_PERIOD: Duration = Duration::from_secs(14 * 24 * 3_600);

/// A header believed without proof, and for how long. JSON or TOML.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustRoot {
    /// The chain.
    pub chain: ChainId,
    /// The header's height.
    pub height: u64,
    /// The header's hash.
    pub header_hash: TxHash,
    /// Seconds from the header's time within which its validators are believed.
    pub trusting_period_seconds: u64,
}

impl TrustRoot {
    /// Pins the newest header of the first server that answers: trust on first use. What is
    /// pinned is worth as much as that server; compare the hash with somebody else's.
    ///
    /// # Errors
    /// Where no server answers, or its header is not even signed by the validators that it names.
    pub async fn pin(client: &Client) -> Result<Self, VerifyError> {
        let height = client.height().await?;
        let block = fetch::light_block(client, height).await?;
        light::check_alone(&block).map_err(|lie| fetch::lie(client, lie))?;
        let chain = block.signed_header.header.chain_id.as_str();
        let chain = chain.parse().map_err(|_| {
            let (found, wanted) = (chain.into(), "1 to 50 bytes".into());
            fetch::lie(client, Lie::Chain { found, wanted })
        })?;
        Ok(Self::of(chain, &block, DEFAULT_TRUSTING_PERIOD.as_secs()))
    }

    pub(super) fn of(chain: ChainId, block: &LightBlock, trusting_period_seconds: u64) -> Self {
        Self {
            chain,
            height: block.height().value(),
            header_hash: light::hash(&block.signed_header.header),
            trusting_period_seconds,
        }
    }

    /// Whether a block is the pinned one.
    pub(super) fn check(&self, block: &LightBlock) -> Result<(), Lie> {
        let header = &block.signed_header.header;
        if header.chain_id.as_str() != self.chain.as_str() {
            return Err(Lie::Chain {
                found: header.chain_id.to_string(),
                wanted: self.chain.to_string(),
            });
        }
        let found = light::hash(header);
        if block.height().value() != self.height || found != self.header_hash {
            return Err(Lie::NotThePinned {
                height: self.height,
                found: found.to_string(),
                pinned: self.header_hash.to_string(),
            });
        }
        light::check_alone(block)
    }
}
