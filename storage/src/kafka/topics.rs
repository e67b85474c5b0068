//! Creates the topics that are not there, waits until every broker knows them, and refuses those that
//! would lose messages.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};

use super::config;
use super::context::Aside;
use super::place::Place;
use super::settings::{self, Found};
use crate::log::{LogError, Partitions, Topic};

pub(super) type Admin = AdminClient<Aside>;

/// How long brokers may take to answer the first question.
const FIRST_ANSWER: Duration = Duration::from_secs(4);
const ANSWER: Duration = Duration::from_secs(10);
/// How often to begin anew: a broker that hangs is asked like the others until they have noticed, which takes them 9 s.
const TRIES: u32 = 3;
/// How often, and how far apart, to look whether created topics are ready.
const READY_TRIES: u32 = 200;
const READY_PAUSE: Duration = Duration::from_millis(50);

/// What a broker says about the cluster.
struct Cluster {
    /// `host:port` of each broker that is alive.
    brokers: Vec<String>,
    topics: BTreeMap<Topic, Shape>,
}

struct Shape {
    partitions: usize,
    replicas: usize,
    led: bool,
}

/// Leaves every topic there and checked.
pub(super) async fn prepare(
    admin: &Arc<Admin>,
    place: &Place,
    partitions: Partitions,
) -> Result<(), LogError> {
    // Where nobody answers, that is said soon.
    let mut first = Some(look(admin, place, FIRST_ANSWER).await?);
    for _ in 1..TRIES {
        match create_and_check(admin, place, partitions, first.take()).await {
            Err(error @ LogError::Unreachable { .. }) => {
                tracing::warn!(%error, "the topics are looked at again");
            }
            done => return done,
        }
    }
    create_and_check(admin, place, partitions, None).await
}

/// Looks first at what there is, where that was not `seen` already.
async fn create_and_check(
    admin: &Arc<Admin>,
    place: &Place,
    partitions: Partitions,
    seen: Option<Cluster>,
) -> Result<(), LogError> {
    let mut cluster = match seen {
        Some(cluster) => cluster,
        None => look(admin, place, ANSWER).await?,
    };
    let missing: BTreeSet<Topic> =
        Topic::ALL.into_iter().filter(|topic| !cluster.topics.contains_key(topic)).collect();
    if !missing.is_empty() {
        create(admin, place, partitions, &missing, cluster.brokers.len()).await?;
    }
    let mut tries = 0;
    while !Topic::ALL.iter().all(|topic| cluster.topics.get(topic).is_some_and(|shape| shape.led)) {
        if tries == READY_TRIES {
            return Err(unreachable(place, "a topic has a partition without a leader"));
        }
        tries += 1;
        tokio::time::sleep(READY_PAUSE).await;
        cluster = look(admin, place, ANSWER).await?;
    }
    known_everywhere(cluster.brokers.clone(), place).await?;
    let mut settings = describe(admin, place).await?;
    for (topic, shape) in &cluster.topics {
        let settings = settings.remove(topic).unwrap_or_default();
        let found = Found { partitions: shape.partitions, replicas: shape.replicas, settings };
        let needed = usize::try_from(partitions.of(*topic)).unwrap_or(usize::MAX);
        settings::check(&place.topic(*topic), &found, needed, cluster.brokers.len())
            .map_err(LogError::Refused)?;
    }
    Ok(())
}

/// Waits until every broker knows every topic, beginning with these. One that is behind would, as a
/// group's coordinator, have the partitions of an unknown topic given to nobody, and nobody would look
/// again.
async fn known_everywhere(mut brokers: Vec<String>, place: &Place) -> Result<(), LogError> {
    let mut asked = BTreeSet::new();
    while let Some(broker) = brokers.pop() {
        if asked.insert(broker.clone()) {
            brokers.extend(known_to(broker, place).await?);
        }
    }
    Ok(())
}

/// Waits until a broker knows every topic; the brokers of which it knows.
async fn known_to(broker: String, place: &Place) -> Result<Vec<String>, LogError> {
    for _ in 0..READY_TRIES {
        let (server, asked) = (broker.clone(), place.clone());
        let look = move || {
            // Only a client's first question surely goes to the broker that it was given.
            let mut config = config::admin(&asked);
            config.set("bootstrap.servers", server);
            ask(&Admin::from_config_and_context(&config, Aside)?, &asked, FIRST_ANSWER)
        };
        match blocking(place, look).await {
            Ok(cluster) if cluster.topics.len() == Topic::ALL.len() => return Ok(cluster.brokers),
            Ok(_) => tokio::time::sleep(READY_PAUSE).await,
            // One that comes back hears of all that it missed before it answers anyone.
            Err(LogError::Unreachable { .. }) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        }
    }
    Err(unreachable(place, &format!("the broker at {broker} does not know every topic")))
}

async fn look(admin: &Arc<Admin>, place: &Place, patience: Duration) -> Result<Cluster, LogError> {
    let (admin, asked) = (admin.clone(), place.clone());
    blocking(place, move || ask(&admin, &asked, patience)).await
}

/// Asks for everything, because a question about one topic could create it.
fn ask(admin: &Admin, place: &Place, patience: Duration) -> KafkaResult<Cluster> {
    let metadata = admin.inner().fetch_metadata(None, patience)?;
    let mut topics = BTreeMap::new();
    for topic in metadata.topics() {
        let Some(ours) = place.find(topic.name()) else { continue };
        let partitions = topic.partitions();
        let shape = Shape {
            partitions: partitions.len(),
            replicas: partitions.iter().map(|p| p.replicas().len()).min().unwrap_or(0),
            led: !partitions.is_empty() && partitions.iter().all(|p| p.leader() >= 0),
        };
        topics.insert(ours, shape);
    }
    let address = |host: &str, port| match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    };
    let brokers = metadata.brokers().iter().map(|broker| address(broker.host(), broker.port())).collect();
    Ok(Cluster { brokers, topics })
}

async fn blocking<T: Send + 'static>(
    place: &Place,
    run: impl FnOnce() -> KafkaResult<T> + Send + 'static,
) -> Result<T, LogError> {
    let ran = tokio::task::spawn_blocking(run).await;
    ran.map_err(|error| LogError::Failed(error.to_string()))?.map_err(|error| failure(place, &error))
}

async fn create(
    admin: &Admin,
    place: &Place,
    partitions: Partitions,
    missing: &BTreeSet<Topic>,
    brokers: usize,
) -> Result<(), LogError> {
    let replicas = settings::replicas(brokers);
    let wanted = settings::wanted(replicas);
    let names: Vec<(Topic, String)> = missing.iter().map(|topic| (*topic, place.topic(*topic))).collect();
    let topics: Vec<NewTopic<'_>> = names
        .iter()
        .map(|(topic, name)| {
            let count = i32::try_from(partitions.of(*topic)).unwrap_or(i32::MAX);
            let replication = TopicReplication::Fixed(i32::try_from(replicas).unwrap_or(1));
            let new = NewTopic::new(name, count, replication);
            wanted.iter().fold(new, |new, (key, value)| new.set(key, value))
        })
        .collect();
    let options = AdminOptions::new().request_timeout(Some(ANSWER)).operation_timeout(Some(ANSWER));
    let results = admin.create_topics(&topics, &options).await.map_err(|error| failure(place, &error))?;
    for result in results {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, code)) => {
                return Err(LogError::Refused(format!("topic {name} cannot be created: {code}")));
            }
        }
    }
    Ok(())
}

async fn describe(
    admin: &Admin,
    place: &Place,
) -> Result<BTreeMap<Topic, BTreeMap<String, String>>, LogError> {
    let mut all = BTreeMap::new();
    for topic in Topic::ALL {
        all.insert(topic, settings_of(admin, place, &place.topic(topic)).await?);
    }
    Ok(all)
}

/// The settings of a topic. A broker that does not know it yet answers without any.
async fn settings_of(admin: &Admin, place: &Place, name: &str) -> Result<BTreeMap<String, String>, LogError> {
    let options = AdminOptions::new().request_timeout(Some(ANSWER));
    for _ in 0..READY_TRIES {
        let asked = [ResourceSpecifier::Topic(name)];
        let answers =
            admin.describe_configs(&asked, &options).await.map_err(|error| failure(place, &error))?;
        let mut settings = BTreeMap::new();
        for answer in answers {
            let answer = answer.map_err(|code| failure(place, &KafkaError::AdminOp(code)))?;
            settings.extend(answer.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))));
        }
        if !settings.is_empty() {
            return Ok(settings);
        }
        tokio::time::sleep(READY_PAUSE).await;
    }
    Err(unreachable(place, &format!("a broker does not know topic {name}, which others do")))
}

/// An error of the library's as one of the log's.
pub(super) fn failure(place: &Place, error: &KafkaError) -> LogError {
    use RDKafkaErrorCode as Code;
    let code = match error {
        KafkaError::AdminOp(code) => Some(*code),
        error => error.rdkafka_error_code(),
    };
    match code {
        Some(
            Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::MessageTimedOut
            | Code::TimedOutQueue
            | Code::Resolve
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::BrokerNotAvailable
            | Code::ReplicaNotAvailable
            | Code::OffsetNotAvailable
            | Code::NetworkException
            | Code::NotController,
        ) => unreachable(place, &error.to_string()),
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => {
            LogError::Refused(format!("{}: {error}: was a topic deleted?", place.url()))
        }
        _ => LogError::Failed(error.to_string()),
    }
}

fn unreachable(place: &Place, cause: &str) -> LogError {
    LogError::Unreachable { place: place.url(), cause: cause.to_owned() }
}
