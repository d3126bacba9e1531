//! Contracts: negotiations in both roles, approvals by people, and the requests of this park's enterprises.

mod approvals;
mod consumer;
mod facts;
mod negotiations;
mod provider;
mod requests;
mod steps;

pub use approvals::{ApprovalDecision, Approvals, PendingApproval};
pub use consumer::{ContractOffer, PlainAgreement};
pub use facts::Terms;
pub use negotiations::Negotiations;
pub use provider::ContractRequest;
pub use requests::{NegotiationRequest, RequestStage, RequestView, Requests};
