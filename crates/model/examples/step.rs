//! Times training steps of a random model: `step MODEL ROWS WIDTH STEPS [KIND]`, MODEL being `hidden x layers x vocabulary`.
//! Reads a folder of transformers' instead where MODEL is one. Prints the seconds of each part of a step.

use std::path::Path;
use std::time::Instant;

use palimpsest_model::{Batch, Config, Decoder, ForwardOptions};
use palimpsest_torch::{AdamW, adamw_step, scale_all, total_norm};
use tch::{Device, Kind, Tensor};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, rows, width, steps, rest @ ..] = arguments.as_slice() else {
        return Err("usage: step MODEL ROWS WIDTH STEPS [bf16]".into());
    };
    let (rows, width, steps): (i64, i64, usize) = (rows.parse()?, width.parse()?, steps.parse()?);
    palimpsest_torch::keep_freed_memory();
    let threads = std::env::var("THREADS").map_or(Ok(2), |threads| threads.parse())?;
    palimpsest_torch::set_threads(threads)?;
    let model = if Path::new(model).is_dir() {
        Decoder::open(Path::new(model), Device::Cpu, Kind::Float)?
    } else {
        let sizes = model.split('x').map(str::parse).collect::<Result<Vec<i64>, _>>()?;
        let fields = serde_json::json!({
            "vocab_size": sizes[2], "hidden_size": sizes[0], "intermediate_size": sizes[0] * 8 / 3 / 8 * 8,
            "num_hidden_layers": sizes[1], "num_attention_heads": sizes[0] / 32,
        });
        let config = Config::from_json(fields.as_object().ok_or("not an object")?, "arguments")?;
        Decoder::random(&config, 1, Device::Cpu, Kind::Float)?
    };
    let compute = if rest.iter().any(|word| word == "bf16") { Kind::BFloat16 } else { Kind::Float };
    let options = ForwardOptions { compute, ..ForwardOptions::default() };
    let ids = Tensor::randint(model.config.vocab_size, [rows, width], (Kind::Int64, Device::Cpu));
    let mut batch = Batch::of_documents(&ids);
    batch.labels = ids.roll([-1i64].as_slice(), [1i64].as_slice());
    if rest.iter().any(|word| word == "packed") {
        let piece = width / 4;
        batch.segments = vec![vec![piece + 3, piece - 5, piece + 7, width - 3 * piece - 5]; rows as usize];
    }
    let parameters: Vec<Tensor> = model.parameters().iter().map(|parameter| parameter.tensor.detach()).collect();
    let zeros = || parameters.iter().map(Tensor::zeros_like).collect::<Vec<_>>();
    let (averages, squares) = (zeros(), zeros());
    let counts: Vec<Tensor> =
        parameters.iter().map(|_| Tensor::zeros([] as [i64; 0], (Kind::Float, Device::Cpu))).collect();
    let settings = AdamW { learning_rate: 1e-4, betas: (0.9, 0.95), epsilon: 1e-8, weight_decay: 0.1 };
    let mut seconds = Vec::new();
    for _ in 0..steps {
        let start = Instant::now();
        let cpu = cpu_seconds();
        let tokens = (rows * width) as f64;
        let loss = model.loss_and_backward(&batch, 1.0 / tokens, &options)?;
        let passes = start.elapsed().as_secs_f64();
        let passes_cpu = cpu_seconds();
        let gradients: Vec<Tensor> = model.parameters().iter().map(|parameter| parameter.tensor.grad()).collect();
        let norm = total_norm(&gradients)?;
        scale_all(&gradients, &(norm + 1e-6).reciprocal().clamp_max(1.0))?;
        adamw_step(&parameters, &gradients, &averages, &squares, &counts, settings)?;
        model.zero_gradients()?;
        let all = if threads == 1 { cpu_seconds() - cpu } else { start.elapsed().as_secs_f64() };
        let passes = if threads == 1 { passes_cpu - cpu } else { passes };
        println!("loss {:.4} passes {passes:.4} optimizer {:.4} step {all:.4}", loss.sum / tokens, all - passes);
        seconds.push(all);
    }
    seconds.sort_by(f64::total_cmp);
    let median = seconds[seconds.len() / 2];
    println!(
        "median {median:.4} s, {:.0} tokens/s, best {:.0}",
        (rows * width) as f64 / median,
        (rows * width) as f64 / seconds[0]
    );
    let memory = palimpsest_torch::host_memory().unwrap_or_default();
    println!("peak memory {:.0} MB", memory.peak as f64 / 1e6);
    Ok(())
}

/// The seconds that this thread has run, which other processes on the machine do not lengthen.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|word| word.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}
