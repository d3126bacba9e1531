//! Generates the sample datasets in `examples/data`, deterministically.
//!
//! Real figures come from "Future Industrial Park: Integrated Development and Prospects Driven by Innovation" (Jia, Hu,
//! Zhang; 42nd IASP World Conference, Beijing 2025) and state it as their source. All other values are invented and
//! marked as generated.
//!
//! Run it with `cargo run --example generate_samples`.

use serde_json::json;
use std::fmt::Write;
use std::path::Path;

const PAPER: &str = "IASP 2025, Jia, Hu, Zhang";
const VR_PARK: &str = "Zhongguancun Virtual Reality Industrial Park";
const AI_CLUSTER: &str = "Shijingshan AI Large Model Industrial Cluster";

/// A linear congruential generator (Knuth's MMIX constants).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, max: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % max
    }
}

fn compute_resources() -> String {
    let mut numbers = Numbers(2025);
    let mut out = String::new();
    let whole = json!({
        "id": "ncmatch", "name": "NCMatch computing platform", "platform": "NCMatch", "park": AI_CLUSTER, "kind": "mixed",
        "performance_pflops": 6000, "served_enterprises": 115, "generated": false,
        "note": format!("{PAPER}: over 6,000 PFlops; has served more than 115 enterprises"),
    });
    writeln!(out, "{whole}").unwrap();
    let kinds = [("gpu", "bf16", 80), ("npu", "fp16", 64), ("cpu", "fp64", 0)];
    for n in 1..=24u64 {
        let (kind, precision, memory) = kinds[numbers.below(3) as usize];
        let accelerators = 8 * (1 + numbers.below(64));
        let pool = json!({
            "id": format!("pool-{n:02}"), "name": format!("Pool {n}"), "platform": "NCMatch", "park": AI_CLUSTER,
            "kind": kind, "precision": precision, "accelerators": accelerators, "memory_gib": accelerators * memory,
            "performance_pflops": (accelerators as f64) * 0.4, "utilisation": numbers.below(1_001) as f64 / 1_000.0,
            "price_cny_per_hour": 4.0 + numbers.below(200) as f64 / 10.0, "generated": true,
        });
        writeln!(out, "{pool}").unwrap();
    }
    out
}

fn indicators() -> String {
    let mut out = String::from("indicator,area,area_name,period,value,unit,source,note\r\n");
    let both = "CN-BJ-SJS";
    for (indicator, area, name, period, value, unit, note) in [
        ("Output", both, "Both parks", "2024", "5.2", "billion CNY", "about"),
        ("Resident enterprises", both, "Both parks", "2024", "141", "enterprises", "around"),
        ("Computing capacity", "AI", AI_CLUSTER, "2024", "6000", "PFlops", "over; NCMatch platform"),
        ("Enterprises served with computing", "AI", AI_CLUSTER, "2024", "115", "enterprises", "more than"),
        ("Satisfaction with convenience before", "VR", VR_PARK, "2023", "6.2", "of 10", "the year is assumed"),
        ("Satisfaction with convenience after", "VR", VR_PARK, "2024", "8.7", "of 10", "the year is assumed"),
        ("Shortage of VR algorithm engineers", "VR", VR_PARK, "2024", "90", "percent", "over"),
        ("Enterprises in content development", "VR", VR_PARK, "2024", "70", "percent", ""),
        (
            "Reduction of the effects production cycle",
            "VR",
            VR_PARK,
            "2024",
            "40",
            "percent",
            "joint motion capture project",
        ),
        (
            "Reduction of the effects production cost",
            "VR",
            VR_PARK,
            "2024",
            "35",
            "percent",
            "joint motion capture project",
        ),
    ] {
        write!(out, "{indicator},{area},{name},{period},{value},{unit},\"{PAPER}\",{note}\r\n").unwrap();
    }
    out
}

fn enterprises() -> String {
    let mut numbers = Numbers(1024);
    let mut out = String::from("id,name,sector,subsector,seat,park,employees,note\r\n");
    let source = format!("named in {PAPER}");
    for (id, name, subsector) in [
        ("silkroad", "Silkroad Visual Beijing Center", "Film-grade motion capture"),
        ("virtual-point", "\"Beijing Virtual Point Technology Co., Ltd\"", "Film-grade motion capture"),
        ("hiar", "\"HiAR (Beijing) Information Technology Co., Ltd\"", "Industrial VR"),
    ] {
        write!(out, "{id},{name},Virtual reality,{subsector},Shijingshan Beijing,{VR_PARK},,\"{source}\"\r\n").unwrap();
    }
    let subsectors =
        ["Content development", "Head-mounted displays", "Motion capture", "Digital humans", "Training systems"];
    for n in 1..=60u64 {
        // 70 percent are in content development, as in the paper.
        let subsector = if numbers.below(10) < 7 { subsectors[0] } else { subsectors[1 + numbers.below(4) as usize] };
        let employees = 5 + numbers.below(300);
        write!(out, "vr-{n:03},VR sample enterprise {n},Virtual reality,{subsector},Shijingshan Beijing,{VR_PARK},{employees},generated\r\n").unwrap();
    }
    out
}

/// Answers of a survey. The header has the fields' Chinese titles.
fn satisfaction() -> String {
    let mut numbers = Numbers(87);
    let mut out = String::from("调查,问题,主题,园区,人群,时期,有效答卷,评分,此前评分,生成的样例,备注\r\n");
    let note = format!("\"{PAPER}; the year and the number of answers are assumed\"");
    write!(out, "2024,convenience,convenience,{VR_PARK},,2024,100,8.7,6.2,false,{note}\r\n").unwrap();
    let topics = ["services", "facilities", "transport", "housing", "talent", "computing"];
    let groups = ["员工", "企业负责人", "新入驻企业"];
    for (n, topic) in topics.iter().enumerate() {
        for group in groups {
            let (answers, score, before) = (20 + numbers.below(180), 60 + numbers.below(35), 50 + numbers.below(35));
            let (score, before) = (score as f64 / 10.0, before as f64 / 10.0);
            write!(out, "2024,q{n},{topic},{VR_PARK},{group},2024,{answers},{score},{before},true,\r\n").unwrap();
        }
    }
    out
}

/// Flats for talents: no shared schema describes them.
fn flats() -> String {
    let mut numbers = Numbers(101);
    let mut out = String::from("房号,楼层,面积（平方米）,月租（元）,入住日期,已入住\r\n");
    for n in 0..40u64 {
        let (floor, area) = (1 + n / 4, 30 + numbers.below(60));
        let rent = area * (55 + numbers.below(30));
        let taken = numbers.below(10) < 8;
        let since = if taken { format!("2025-{:02}-01", 1 + numbers.below(12)) } else { String::new() };
        write!(out, "A-{floor}0{},{floor},{area},{rent},{since},{taken}\r\n", 1 + n % 4).unwrap();
    }
    out
}

fn main() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("compute-resources.ndjson"), compute_resources())?;
    std::fs::write(folder.join("park-indicators.csv"), indicators())?;
    std::fs::write(folder.join("satisfaction.csv"), satisfaction())?;
    std::fs::write(folder.join("flats.csv"), flats())?;
    std::fs::write(folder.join("enterprises.csv"), enterprises())
}
