//! From a request to the application's method.

use tendermint_abci::Application;
use tendermint_proto::v0_38::abci::{
    Request, Response, request::Value as Asked, response::Value as Answer,
};

/// A request that ABCI 2.0 as of CometBFT 0.38 does not have.
#[derive(Debug, thiserror::Error)]
#[error(
    "a request of a kind that CometBFT 0.38 does not send: run CometBFT 0.38 with this version"
)]
pub struct Unknown;

/// Answers a request.
pub fn dispatch<A: Application>(app: &A, request: Request) -> Result<Response, Unknown> {
    let answer = match request.value.ok_or(Unknown)? {
        Asked::Echo(request) => Answer::Echo(app.echo(request)),
        Asked::Flush(_) => Answer::Flush(app.flush()),
        Asked::Info(request) => Answer::Info(app.info(request)),
        Asked::InitChain(request) => Answer::InitChain(app.init_chain(request)),
        Asked::Query(request) => Answer::Query(app.query(request)),
        Asked::CheckTx(request) => Answer::CheckTx(app.check_tx(request)),
        Asked::Commit(_) => Answer::Commit(app.commit()),
        Asked::ListSnapshots(_) => Answer::ListSnapshots(app.list_snapshots()),
        Asked::OfferSnapshot(request) => Answer::OfferSnapshot(app.offer_snapshot(request)),
        Asked::LoadSnapshotChunk(request) => {
            Answer::LoadSnapshotChunk(app.load_snapshot_chunk(request))
        }
        Asked::ApplySnapshotChunk(request) => {
            Answer::ApplySnapshotChunk(app.apply_snapshot_chunk(request))
        }
        Asked::PrepareProposal(request) => Answer::PrepareProposal(app.prepare_proposal(request)),
        Asked::ProcessProposal(request) => Answer::ProcessProposal(app.process_proposal(request)),
        Asked::ExtendVote(request) => Answer::ExtendVote(app.extend_vote(request)),
        Asked::VerifyVoteExtension(request) => {
            Answer::VerifyVoteExtension(app.verify_vote_extension(request))
        }
        Asked::FinalizeBlock(request) => Answer::FinalizeBlock(app.finalize_block(request)),
    };
    Ok(Response { value: Some(answer) })
}
