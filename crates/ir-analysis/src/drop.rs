//! The network without one block's branch (Fig. 3; Veit et al. 2016).

use crate::batch::Batch;
use crate::checked::Checked;
use crate::error::Result;
use crate::outcome::Outcomes;
use crate::trace::Trace;

/// The outcomes with F_j := 0: h_{j+1} = after_j(s_j), then the rest of the network.
///
/// It starts at the s_j that the trace holds, so dropping each of L blocks in turn costs about
/// L/2 passes instead of L.
pub(crate) fn without_block(
    network: &Checked<'_>,
    trace: &Trace,
    batch: &Batch,
    block: usize,
) -> Result<Outcomes> {
    let h = network.after(block, &trace.blocks[block].s)?.detach();
    Outcomes::new(&network.logits_from(block + 1, &h)?, batch)
}
