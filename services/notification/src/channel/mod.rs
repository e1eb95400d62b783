//! How a message leaves: a port with two implementations.

mod mailbox;
mod smtp;

use std::sync::Arc;

use async_trait::async_trait;
use hospital_kit::{outcome::Broken, service::Context};
use hospital_types::{NotificationId, Sensitive};
use jiff::Timestamp;
use lettre::{
    Address, Message,
    address::{AddressError, Envelope},
    message::{Mailbox, header::ContentType},
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

/// An address whose domain is in ASCII (punycode), as DNS has it and every mail server takes it.
fn on_the_wire(address: &Mailbox) -> Result<Mailbox, AddressError> {
    let email = &address.email;
    if email.domain().is_ascii() {
        return Ok(address.clone());
    }
    let domain = idna::domain_to_ascii(email.domain()).map_err(|_| AddressError::InvalidDomain)?;
    Ok(Mailbox::new(address.name.clone(), Address::new(email.user(), domain)?))
}

/// What every message of this hospital has alike.
pub(crate) struct Letterhead {
    from: Mailbox,
    domain: String,
}

impl Letterhead {
    fn new(sender: &str, domain: &str) -> Result<Self, Broken> {
        let from: Mailbox =
            sender.parse().map_err(|e| Broken::defect("reading notification.sender", e))?;
        let from = on_the_wire(&from)
            .map_err(|e| Broken::defect("reading the domain of notification.sender", e))?;
        let domain = idna::domain_to_ascii(domain)
            .map_err(|e| Broken::defect("reading facility.mail_domain", e))?;
        Ok(Self { from, domain })
    }

    fn letter(&self, message: &Outgoing) -> Result<Message, NotSent> {
        let to = message.recipient.expose().parse().and_then(|to| on_the_wire(&to));
        let to = to.map_err(|_| NotSent::Never("the address is malformed".to_owned()))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(sender: &str, domain: &str, to: &str, subject: &str) -> String {
        let message = Outgoing {
            id: NotificationId::new(),
            recipient: Sensitive::new(to.to_owned()),
            subject: subject.to_owned(),
            body: "Hello".to_owned(),
            created_at: Timestamp::UNIX_EPOCH,
        };
        let letter = Letterhead::new(sender, domain).unwrap().letter(&message).unwrap();
        String::from_utf8(letter.formatted()).unwrap()
    }

    #[test]
    fn domains_are_in_ascii_and_local_parts_as_they_are() {
        for (given, written) in [
            ("zoe@example.org", "zoe@example.org"),
            ("user@münchen.example", "user@xn--mnchen-3ya.example"),
            ("user@MÜNCHEN.example", "user@xn--mnchen-3ya.example"),
            ("用户@例子.example", "用户@xn--fsqu00a.example"),
            ("用户@example.org", "用户@example.org"),
        ] {
            let letter = letter("hospital@hospital.example", "hospital.example", given, "Hi");
            assert!(letter.contains(&format!("To: {written}\r\n")), "{letter}");
        }
        let letter = letter("Köln <info@köln.example>", "köln.example", "zoe@example.org", "Hi");
        assert!(letter.is_ascii(), "{letter}");
        assert!(letter.contains(" <info@xn--kln-sna.example>\r\n"), "{letter}");
        assert!(letter.contains("@xn--kln-sna.example>\r\n"), "{letter}");
    }

    #[test]
    fn a_header_holds_ascii_and_one_line_whatever_the_facility_is_called() {
        let subject = "Your appointment - Krankenhaus Köln\r\nBcc: everybody@example.org";
        let letter = letter("Köln <a@b.example>", "b.example", "zoe@example.org", subject);
        let (headers, _) = letter.split_once("\r\n\r\n").unwrap();
        assert!(headers.is_ascii(), "{headers}");
        assert!(headers.contains("From: =?utf-8?b?S8O2bG4=?= <a@b.example>"), "{headers}");
        assert!(!headers.contains("\r\nBcc:"), "{headers}");
        assert!(
            headers.contains("\r\nSubject: Your appointment - Krankenhaus =?utf-8?b?"),
            "{headers}"
        );
    }
}
