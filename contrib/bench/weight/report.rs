//! The tables of one run.

use std::io::{self, Write};

use super::{
    Measured, kind_name,
    latency::Way,
    memory::State,
    programs::Who,
    scale::Scale,
    table::{Table, ratio, shown, whole},
    targets,
};

pub(crate) fn print(measured: &Measured) -> io::Result<()> {
    // `println!` would panic when nobody reads any more.
    let mut out = io::stdout();
    if !measured.starts.is_empty() {
        writeln!(out, "{}", starts(measured))?;
    }
    if !measured.memory.is_empty() {
        writeln!(out, "{}", memory(measured))?;
    }
    if !measured.costs.is_empty() {
        writeln!(out, "{}", costs(measured))?;
    }
    if !measured.latencies.is_empty() {
        writeln!(out, "{}", latencies(measured))?;
    }
    if let Some(scale) = &measured.scale {
        writeln!(out, "{}", services(scale))?;
    }
    for missing in &measured.missing {
        writeln!(out, "Left out: {missing}")?;
    }
    let reached = targets::all(measured);
    if !reached.is_empty() {
        writeln!(out, "\n{}", targets::table(&reached))?;
    }
    Ok(())
}

fn starts(measured: &Measured) -> Table {
    let of = |who| measured.starts.iter().find(|start| start.who == who);
    let tini = of(Who::Tini).and_then(|start| start.total.median());
    let floor = of(Who::CMusl).and_then(|start| start.total.median());
    let heads = [
        "µs",
        "median",
        "low 5 %",
        "least",
        "/ tini",
        "/ C, musl",
        "to the daemon",
    ];
    let title = format!(
        "Start: what `X -- true` takes longer than `true`, {} rounds; beside it, how much later the daemon's own code runs",
        measured.rounds
    );
    let mut table = Table::new(title, &heads);
    for start in &measured.starts {
        let median = start.total.median();
        table.row([
            start.who.name().to_owned(),
            shown(median, 0),
            shown(start.total.low(), 0),
            shown(start.total.least(), 0),
            ratio(median, tini),
            ratio(median, floor),
            shown(start.to_daemon.median(), 0),
        ]);
    }
    table
}

fn memory(measured: &Measured) -> Table {
    let idle = measured.idle.as_secs();
    let wakeups = format!("wake-ups in {idle} s");
    let heads = [
        "kB",
        "processes",
        "anonymous",
        "unshared, alone",
        "unshared, a further one",
        "page tables",
        "threads each",
        &wakeups,
    ];
    let mut table = Table::new("Memory while idle, without the daemon", &heads);
    for memory in &measured.memory {
        let state = match memory.state {
            _ if !memory.who.is_ours() => "",
            State::Started => ": started",
            State::Ready => ": ready",
            State::Standby => ": standby",
            State::Restarted => ": restarted",
        };
        table.row([
            format!("{}{state}", memory.who.name()),
            memory.processes.to_string(),
            memory.further.anonymous.to_string(),
            memory.alone.unshared.to_string(),
            memory.further.unshared.to_string(),
            memory.further.page_tables.to_string(),
            memory.threads.to_string(),
            memory.wakeups.to_string(),
        ]);
    }
    table
}

fn costs(measured: &Measured) -> Table {
    let heads = ["", "system calls", "execs", "instructions"];
    let mut table = Table::new("From its own exec to the daemon's", &heads);
    for cost in &measured.costs {
        table.row([
            cost.who.name().to_owned(),
            whole(cost.calls),
            whole(cost.execs.map(|execs| execs.saturating_sub(1))),
            whole(cost.instructions),
        ]);
    }
    table
}

fn latencies(measured: &Measured) -> Table {
    let heads = [
        "ms",
        "",
        "TERM to exit",
        "95 %",
        "to the first answer",
        "95 %",
        "/ bare",
    ];
    let title = "A restart: from TERM to the launcher's exit, and to the first answer of the new generation; medians";
    let mut table = Table::new(title, &heads);
    let milliseconds = |microseconds: Option<f64>| shown(microseconds.map(|one| one / 1e3), 2);
    for latency in &measured.latencies {
        let bare = measured
            .latencies
            .iter()
            .find(|other| other.kind == latency.kind && other.way == Way::Bare);
        let bare = bare.and_then(|bare| bare.to_answer.median());
        table.row([
            kind_name(latency.kind),
            latency.way.name().to_owned(),
            milliseconds(latency.to_exit.median()),
            milliseconds(latency.to_exit.high()),
            milliseconds(latency.to_answer.median()),
            milliseconds(latency.to_answer.high()),
            ratio(latency.to_answer.median(), bare),
        ]);
    }
    table
}

fn services(scale: &Scale) -> Table {
    let title = format!("{} services at once, under runsvdir", scale.services);
    let mut table = Table::new(title, &["", "all", "each"]);
    let each = |all: u64| format!("{:.1} kB", all as f64 / scale.services.max(1) as f64);
    let mut memory = |what: &str, all: u64| {
        let megabytes = format!("{:.1} MB", all as f64 / 1e3);
        table.row([what.to_owned(), megabytes, each(all)]);
    };
    memory("launchers and keepers, anonymous", scale.ours.anonymous);
    memory("launchers and keepers, unshared", scale.ours.unshared);
    memory("launchers and keepers, page tables", scale.ours.page_tables);
    memory("daemons, unshared", scale.daemons.unshared);
    memory("runsv and runsvdir, unshared", scale.supervisors.unshared);
    let mut time = |what: &str, time: std::time::Duration| {
        let each = time.as_secs_f64() * 1e3 / scale.services.max(1) as f64;
        let all = format!("{:.2} s", time.as_secs_f64());
        table.row([what.to_owned(), all, format!("{each:.2} ms")]);
    };
    time("until all are started and answer", scale.to_start);
    time("TERM to all, until all new ones answer", scale.to_restart);
    time("until all old ones have gone", scale.to_drain);
    let slowest = format!("slowest {:.1} ms", scale.slowest.as_secs_f64() * 1e3);
    table.row([
        "requests meanwhile".to_owned(),
        scale.requests.to_string(),
        slowest,
    ]);
    table.row([
        "of them lost".to_owned(),
        scale.lost.to_string(),
        String::new(),
    ]);
    for (count, sample) in scale.warnings.iter().take(8) {
        table.row([
            format!("logged: {sample}"),
            count.to_string(),
            String::new(),
        ]);
    }
    table
}
