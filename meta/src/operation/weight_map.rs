//! The weight map of an epoch.

use pocket_proto::session::{GetWeightMap, reply};
use pocket_proto::{Epoch, Failure};

use super::{Context, Step};

pub(super) fn get_weight_map(
    context: &mut Context<'_>,
    request: &GetWeightMap,
) -> Result<Step, Failure> {
    let map = context.state.layouts.map(Epoch(request.epoch))?;
    Ok(Step::Done(reply::Result::WeightMap(map.clone())))
}
