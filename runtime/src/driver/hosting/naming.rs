//! The names of what is hosted: checked where the caller has minted them, minted here for a caller that cannot.

use cantrip_gates::GateError;

use crate::domain::caller::Caller;
use crate::domain::ids::{EntityId, LoomId};
use crate::domain::loom::Minted;
use crate::domain::members::Nonce;
use crate::domain::remote::{ByHost, Order, Refusal};
use crate::ports::StoreError;

use super::{Casts, ours, refuse};

impl Casts {
    /// Fills in what the order leaves to this node to name, and checks what the caller has named itself.
    ///
    /// The names follow from this node's key, the caller and the caller's name for the cast. So the same request gets the same ones,
    /// before and after a restart, whether or not anything of it is recorded.
    ///
    /// # Errors
    /// An id that does not commit to what the order says of it, or a record that cannot be read.
    pub fn name(&self, caller: &Caller, mut order: Order) -> Result<Order, Refusal> {
        if order.by_host == ByHost::Nothing {
            return if order.again { Ok(order) } else { checked(order) };
        }
        if order.again {
            let what = "a further intent names the entity that it is for".to_owned();
            return Err(refuse("entity", GateError::Invalid(what)));
        }
        let minted = self.minted(caller, &order).map_err(|error| ours(&error))?;
        let unix_ms = order.cast.unix_ms();
        order.entity = EntityId::mint(unix_ms, &minted.by, &minted.nonce);
        order.minted = Some(minted);
        if order.by_host == ByHost::LoomAndEntity {
            order.loom = self.loom_of(unix_ms, &minted).map_err(|error| ours(&error))?;
        }
        Ok(order)
    }

    /// The loom that this node has founded for an order, or founds now: as the node that its member record says, if it has one.
    fn loom_of(&self, unix_ms: u64, minted: &Minted) -> Result<LoomId, StoreError> {
        let store = &self.0.runtime.host.store;
        let records = store.own_records(minted.by)?;
        let records = records.iter().map(|record| Some(record.to_bytes())).chain([None]);
        let named = records.map(|record| LoomId::mint(unix_ms, &minted.by, &minted.nonce, record.as_deref()));
        let named: Vec<LoomId> = named.collect();
        for loom in &named {
            if !store.logs(*loom)?.is_empty() || store.head(*loom)?.sequence > 0 {
                return Ok(*loom);
            }
        }
        Ok(named.first().copied().unwrap_or_else(|| LoomId::mint(unix_ms, &minted.by, &minted.nonce, None)))
    }

    /// What the ids of this order commit to: this node's key, or an earlier one if the order was taken under that.
    fn minted(&self, caller: &Caller, order: &Order) -> Result<Minted, StoreError> {
        let store = &self.0.runtime.host.store;
        let nonce = Nonce::of_cast(caller, &order.cast);
        for by in store.formerly()? {
            if store.loom_of(EntityId::mint(order.cast.unix_ms(), &by, &nonce))?.is_some() {
                return Ok(Minted { by, nonce });
            }
        }
        Ok(Minted { by: store.writer(), nonce })
    }
}

fn checked(order: Order) -> Result<Order, Refusal> {
    let wrong = |what: String| Err(refuse("entity", GateError::Invalid(what)));
    match order.minted {
        Some(minted) if order.entity.is_minted_by(&minted.by, &minted.nonce) => Ok(order),
        Some(minted) => wrong(format!(
            "the id of the entity {} does not commit to {} and the nonce with it",
            order.entity, minted.by
        )),
        None => wrong(format!("the order does not say who minted the id of the entity {}", order.entity)),
    }
}
