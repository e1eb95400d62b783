//! How a message leaves: a port with two implementations.

mod mailbox;
mod smtp;

use std::sync::Arc;

use async_trait::async_trait;
use hospital_kit::{outcome::Broken, service::Context};
use hospital_types::{NotificationId, Sensitive};
use jiff::Timestamp;
use lettre::{
    Message,
    address::Envelope,
    message::{Mailbox as Address, header::ContentType},
};

/// A message that is ready to leave. Sent again, it is the same to the byte.
pub(crate) struct Outgoing {
    pub(crate) id: NotificationId,
    pub(crate) recipient: Sensitive<String>,
    pub(crate) subject: String,
    pub(crate) body: String,
    pub(crate) created_at: Timestamp,
}

/// Why a message did not leave. Says nothing of its recipient.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotSent {
    /// Worth another try later.
    #[error("{0}")]
    Later(String),
    /// Another try changes nothing.
    #[error("{0}")]
    Never(String),
}

/// Something that takes messages to patients.
#[async_trait]
pub(crate) trait Messenger: Send + Sync {
    /// Sends each; gives what became of each, in their order.
    async fn send(&self, messages: Vec<Outgoing>) -> Vec<Result<(), NotSent>>;
}

/// The mail server of the settings, or the mailbox directory.
pub(crate) fn messenger(context: &Context) -> Result<Arc<dyn Messenger>, Broken> {
    let config = &context.config;
    let letterhead = Letterhead::new(&config.sender(), &config.facility.mail_domain)?;
    Ok(match &config.notification.smtp {
        Some(smtp) => Arc::new(smtp::Smtp::new(smtp, letterhead)?),
        None => {
            let dir = config.notification.mailbox_dir.clone();
            Arc::new(mailbox::Mailbox::new(dir, context.clock.clone(), letterhead))
        }
    })
}

/// What every message of this hospital has alike.
pub(crate) struct Letterhead {
    from: Address,
    domain: String,
}

impl Letterhead {
    fn new(sender: &str, domain: &str) -> Result<Self, Broken> {
        let from = sender.parse().map_err(|e| Broken::defect("reading notification.sender", e))?;
        Ok(Self { from, domain: domain.to_owned() })
    }

    fn letter(&self, message: &Outgoing) -> Result<Message, NotSent> {
        let to: Address = message
            .recipient
            .expose()
            .parse()
            .map_err(|_| NotSent::Never("the address is malformed".to_owned()))?;
        let date = std::time::SystemTime::from(message.created_at);
        // Given here, it is not read out of the headers again.
        let envelope = Envelope::new(Some(self.from.email.clone()), vec![to.email.clone()])
            .map_err(|_| NotSent::Never("the message has no recipient".to_owned()))?;
        Message::builder()
            .envelope(envelope)
            .from(self.from.clone())
            .to(to)
            .date(date)
            // By it a mail server, or a person, tells a repetition from a second message.
            .message_id(Some(format!("<{}@{}>", message.id, self.domain)))
            .subject(&message.subject)
            .header(ContentType::TEXT_PLAIN)
            .body(message.body.clone())
            .map_err(|_| NotSent::Never("the message cannot be written".to_owned()))
    }
}
