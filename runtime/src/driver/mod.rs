//! Sequences: performs what the domain decides, in its order, and feeds back what came of it.
//!
//! Owns the run of an entity, its children, its record and its stopping. Decides nothing that a rule of the
//! specification is about: that is the domain's. Knows no foreign world: models, media, stores and clocks are ports.

mod actor;
mod admitting;
mod adopting;
mod anew;
mod ask;
mod cantrip;
mod control;
mod copies;
mod delegate;
mod divided;
mod ending;
mod fault;
mod foreign;
mod host;
mod hosting;
mod intake;
mod line;
mod members;
mod near_place;
mod read_loom;
mod recorder;
mod reexecute;
mod refusals;
mod remembered;
mod remote;
mod remote_child;
mod replay;
mod runtime;
mod snapshot;
mod vouching;
pub(crate) mod weighed;

pub use cantrip::{Cantrip, CantripBuilder, CantripError, ChildModels};
pub use control::Control;
pub use copies::{
    ACKS_WAIT_MS, AcksError, Arrangement, Copies, CopyError, CopyPolicy, CopyTerms, CopyWire, KeeperState, Linking,
    NoAnswers, NoCopies, NotFenced, Session, arrange,
};
pub use fault::Fault;
pub use foreign::TakenThread;
pub(crate) use vouching::vouching;

pub use hosting::{
    Attached, Build, Casts, ChildSlots, Cursor, HostItem, HostLimits, SlotLimits, Slots, Unfinished, VerificationTurn,
    Verifications, Where,
};
pub use line::{Answer, Ask, CallerGate, CallerLlm, Line};
pub use members::{Changed, Members, Named};
pub use recorder::Loom;
pub use reexecute::{Difference, ReplayError, Replayed};
pub use refusals::{Line as RefusalLine, Refusals};
pub use remote::{RemoteCantrip, RemoteEntity, RemoteError};
pub use runtime::{AmendError, Amendment, CastError, CastOptions, Origin, Runtime, Summoned};
