//! Models: the scripted one, and everything that answers over HTTP.
//!
//! Owns the two implementations of [`Llm`](crate::ports::Llm), how a cantrip file names them, and the one place where
//! genai's types and a provider's wire words occur. It never retries (the driver does), keeps nothing between two
//! questions (LLM-1), reads no environment of its own, and lets no key into an error, a log line or the record.
//!
//! | rule | how it is kept here |
//! |---|---|
//! | LLM-1 | a question is converted whole; what a provider wants back next time travels in the answer (`seal`) |
//! | LLM-2 | a conversation that is too long is told apart from every other refusal (`failure`) |
//! | LLM-3, LLM-4 | an answer is handed over as it came, also when empty or with doubled ids: the domain judges it |
//! | LLM-5 | `tool_choice` goes on the wire; a provider that does not keep it says so (`catalogue`) |
//! | LLM-6 | text, calls and usage of every provider become one [`RawAnswer`](crate::domain::model::RawAnswer) |
//! | LLM-7 | calls and their results keep their order and their ids (`convert`) |

mod address;
mod answer;
mod catalogue;
mod config;
mod convert;
mod destination;
mod failure;
mod framing;
mod provider;
mod relay;
mod replay;
mod scripted;
mod seal;
mod secret;

pub use crate::domain::limits::{MODEL_CONNECT_MS_MAX, MODEL_IDLE_MS_DEFAULT};
pub use config::{LlmConfig, Place, build};
pub use destination::{AddressOrigin, Destination, ProviderLine, destination, providers};
pub use provider::{Environment, Provider, ProviderConfig};
pub use replay::{ReplayServer, normalise, provider_over_replies};
pub use scripted::{Response, Scripted};
pub use seal::visible_thinking;
