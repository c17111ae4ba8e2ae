//! Random programs against models: the order of polls against a simulated loop, and what becomes of
//! tasks against a count.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::thread::{self, ThreadId};
use std::time::Duration;

use postlude::{JoinHandle, Runtime, task};
use proptest::prelude::*;

mod order {
    use super::*;

    /// What a task does in one poll: wakes these tasks, itself perhaps among them.
    type Script = Vec<Vec<usize>>;

    #[derive(Clone, Debug)]
    pub(super) struct Program {
        polls_per_turn: usize,
        /// Whether the task is deferred, and its polls; it ends after the last.
        tasks: Vec<(bool, Script)>,
        /// Tasks woken from outside before each turn.
        outside: Vec<Vec<usize>>,
    }

    pub(super) fn programs() -> impl Strategy<Value = Program> {
        (2..7_usize).prop_flat_map(|count| {
            let wakes = prop::collection::vec(0..count, 0..4);
            let script = prop::collection::vec(wakes.clone(), 1..8);
            (1..5_usize, prop::collection::vec((any::<bool>(), script), count), prop::collection::vec(wakes, 1..20))
                .prop_map(|(polls_per_turn, tasks, outside)| Program { polls_per_turn, tasks, outside })
        })
    }

    /// The polls of each turn, by the rules of docs/contract.md.
    pub(super) fn simulate(program: &Program) -> Vec<Vec<usize>> {
        let count = program.tasks.len();
        let class = |task: usize| usize::from(program.tasks[task].0);
        let mut ready = [VecDeque::new(), VecDeque::new()];
        let mut later = [VecDeque::new(), VecDeque::new()];
        for task in 0..count {
            ready[class(task)].push_back(task);
        }
        let mut queued = vec![true; count];
        let mut polls = vec![0; count];
        let mut alive = vec![true; count];
        let mut turns = Vec::new();
        let mut share = 1;
        for outside in &program.outside {
            let mut turn = Vec::new();
            let known: Vec<bool> = polls.iter().map(|&polls| polls > 0).collect();
            let next = std::mem::take(&mut later[0]);
            ready[0].extend(next);
            let mut poll = |task: usize, ready: &mut [VecDeque<usize>; 2], later: &mut [VecDeque<usize>; 2]| {
                turn.push(task);
                queued[task] = false;
                let script = &program.tasks[task].1;
                for &other in &script[polls[task]] {
                    // A waker is known after the first poll has begun.
                    let known = polls[other] > 0 || other == task;
                    if known && alive[other] && !queued[other] {
                        queued[other] = true;
                        if other != task {
                            let queue = if class(other) == 0 { &mut ready[0] } else { &mut later[1] };
                            queue.push_back(other);
                        }
                    }
                }
                polls[task] += 1;
                if polls[task] == script.len() {
                    alive[task] = false;
                } else if queued[task] {
                    later[class(task)].push_back(task);
                }
            };
            for _ in 0..program.polls_per_turn {
                let Some(task) = ready[0].pop_front() else { break };
                poll(task, &mut ready, &mut later);
            }
            let next = std::mem::take(&mut later[1]);
            ready[1].extend(next);
            let was_idle = ready[1].is_empty();
            let mut deferred_polls = 0;
            while let Some(task) = ready[1].pop_front() {
                poll(task, &mut ready, &mut later);
                deferred_polls += 1;
                if deferred_polls >= share && !(ready[0].is_empty() && later[0].is_empty()) {
                    break;
                }
            }
            if !was_idle {
                share = if ready[1].is_empty() { (share / 2).max(1) } else { share * 2 };
            }
            // A wake from outside is a message, and those come after the polls.
            for &task in outside {
                if known[task] && alive[task] && !queued[task] {
                    queued[task] = true;
                    let queue = if class(task) == 0 { &mut ready[0] } else { &mut later[1] };
                    queue.push_back(task);
                }
            }
            turns.push(turn);
        }
        turns
    }

    /// The same by the runtime.
    pub(super) fn run(program: &Program) -> Vec<Vec<usize>> {
        let mut runtime = Runtime::builder().paused_clock().polls_per_turn(program.polls_per_turn).build().unwrap();
        let wakers: Rc<RefCell<Vec<Option<Waker>>>> = Rc::new(RefCell::new(vec![None; program.tasks.len()]));
        let trace = Rc::new(RefCell::new(Vec::new()));
        for (number, (deferred, script)) in program.tasks.iter().enumerate() {
            let (wakers, trace, script) = (Rc::clone(&wakers), Rc::clone(&trace), script.clone());
            let mut step = 0;
            let future = poll_fn(move |cx| {
                trace.borrow_mut().push(number);
                wakers.borrow_mut()[number] = Some(cx.waker().clone());
                for &other in &script[step] {
                    if let Some(waker) = &wakers.borrow()[other] {
                        waker.wake_by_ref();
                    }
                }
                step += 1;
                if step == script.len() { Poll::Ready(()) } else { Poll::Pending }
            });
            drop(if *deferred { runtime.defer(future) } else { runtime.spawn(future) });
        }
        let mut turns = Vec::new();
        for outside in &program.outside {
            for &task in outside {
                if let Some(waker) = &wakers.borrow()[task] {
                    waker.wake_by_ref();
                }
            }
            let polled_before = trace.borrow().len();
            runtime.turn(Some(Duration::ZERO)).unwrap();
            turns.push(trace.borrow()[polled_before..].to_vec());
        }
        turns
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]
        #[test]
        fn the_loop_polls_in_the_order_of_a_simulated_fifo(program in programs()) {
            prop_assert_eq!(run(&program), simulate(&program), "{:?}", program);
        }
    }
}

mod fate {
    use super::*;

    /// What a task does in its next poll.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) enum Plan {
        Wait,
        WakeSelf,
        Finish,
        Panic,
        AbortSelf,
        AbortSelfAndFinish,
        AbortOther(usize),
        DropOtherHandle(usize),
        WakeOther(usize),
    }

    #[derive(Clone, Copy, Debug)]
    pub(super) enum Step {
        Spawn,
        Plan(usize, Plan),
        Wake(usize),
        WakeElsewhere(usize),
        CloneAndDropWakers(usize),
        Abort(usize),
        AbortElsewhere(usize),
        DropHandle(usize),
        Join(usize),
    }

    fn plan() -> impl Strategy<Value = Plan> {
        let task = 0..32_usize;
        prop_oneof![
            Just(Plan::Wait),
            Just(Plan::WakeSelf),
            Just(Plan::Finish),
            Just(Plan::Panic),
            Just(Plan::AbortSelf),
            Just(Plan::AbortSelfAndFinish),
            task.clone().prop_map(Plan::AbortOther),
            task.clone().prop_map(Plan::DropOtherHandle),
            task.prop_map(Plan::WakeOther),
        ]
    }

    pub(super) fn steps() -> impl Strategy<Value = Vec<(Step, bool)>> {
        let task = 0..32_usize;
        let step = prop_oneof![
            3 => Just(Step::Spawn),
            4 => (task.clone(), plan()).prop_map(|(task, plan)| Step::Plan(task, plan)),
            4 => task.clone().prop_map(Step::Wake),
            1 => task.clone().prop_map(Step::WakeElsewhere),
            1 => task.clone().prop_map(Step::CloneAndDropWakers),
            2 => task.clone().prop_map(Step::Abort),
            1 => task.clone().prop_map(Step::AbortElsewhere),
            2 => task.clone().prop_map(Step::DropHandle),
            3 => task.prop_map(Step::Join),
        ];
        prop::collection::vec((step, any::<bool>()), 1..60)
    }

    /// How a task ended.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum End {
        Value(usize),
        Panicked,
        Cancelled,
    }

    /// What the test knows of a task from outside, shared with the task.
    struct Outside {
        plan: Cell<Plan>,
        waker: RefCell<Option<Waker>>,
        handle: RefCell<Option<JoinHandle<usize>>>,
        drops: Cell<u32>,
        dropped_on: Cell<Option<ThreadId>>,
    }

    /// What the model says of a task.
    struct Model {
        plan: Plan,
        end: Option<End>,
        has_handle: bool,
    }

    struct Subject {
        number: usize,
        all: Rc<RefCell<Vec<Rc<Outside>>>>,
    }

    impl Subject {
        fn other(&self, number: usize) -> Option<Rc<Outside>> {
            let all = self.all.borrow();
            (!all.is_empty()).then(|| Rc::clone(&all[number % all.len()]))
        }
    }

    impl Future for Subject {
        type Output = usize;

        fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<usize> {
            let me = Rc::clone(&self.all.borrow()[self.number]);
            drop(me.waker.replace(Some(cx.waker().clone())));
            let abort = |other: &Outside| {
                if let Some(handle) = &*other.handle.borrow() {
                    handle.abort();
                }
            };
            match me.plan.replace(Plan::Wait) {
                Plan::Wait => {}
                Plan::WakeSelf => cx.waker().wake_by_ref(),
                Plan::Finish => return Poll::Ready(self.number),
                Plan::Panic => std::panic::resume_unwind(Box::new("planned")),
                Plan::AbortSelf => abort(&me),
                Plan::AbortSelfAndFinish => {
                    abort(&me);
                    return Poll::Ready(self.number);
                }
                Plan::AbortOther(other) => drop(self.other(other).map(|other| abort(&other))),
                Plan::DropOtherHandle(other) => drop(self.other(other).map(|other| other.handle.take())),
                Plan::WakeOther(other) => {
                    let waker = self.other(other).and_then(|other| other.waker.borrow().clone());
                    if let Some(waker) = waker {
                        waker.wake();
                    }
                }
            }
            Poll::Pending
        }
    }

    impl Drop for Subject {
        fn drop(&mut self) {
            let me = Rc::clone(&self.all.borrow()[self.number]);
            me.drops.set(me.drops.get() + 1);
            me.dropped_on.set(Some(thread::current().id()));
        }
    }

    struct World {
        all: Rc<RefCell<Vec<Rc<Outside>>>>,
        models: Vec<Model>,
    }

    impl World {
        fn pick(&self, number: usize) -> Option<(usize, Rc<Outside>)> {
            let all = self.all.borrow();
            let number = number.checked_rem(all.len())?;
            Some((number, Rc::clone(&all[number])))
        }

        fn spawn(&mut self, runtime: &Runtime) {
            let number = self.models.len();
            let outside = Outside {
                plan: Cell::new(Plan::Wait),
                waker: RefCell::default(),
                handle: RefCell::default(),
                drops: Cell::new(0),
                dropped_on: Cell::new(None),
            };
            let outside = Rc::new(outside);
            self.all.borrow_mut().push(Rc::clone(&outside));
            let handle = runtime.spawn(Subject { number, all: Rc::clone(&self.all) });
            drop(outside.handle.replace(Some(handle)));
            self.models.push(Model { plan: Plan::Wait, end: None, has_handle: true });
        }

        /// The model of a wake: the task is polled, and its plan carried out; what that does to
        /// others follows.
        fn woken(&mut self, number: usize) {
            if self.models[number].end.is_some() {
                return;
            }
            let plan = std::mem::replace(&mut self.models[number].plan, Plan::Wait);
            let end = match plan {
                Plan::Wait | Plan::WakeSelf => return,
                Plan::Finish | Plan::AbortSelfAndFinish => End::Value(number),
                Plan::Panic => End::Panicked,
                Plan::AbortSelf if self.models[number].has_handle => End::Cancelled,
                Plan::AbortSelf => return,
                Plan::AbortOther(other) => return self.aborted(other % self.models.len()),
                Plan::DropOtherHandle(other) => {
                    let other = other % self.models.len();
                    self.models[other].has_handle = false;
                    return;
                }
                Plan::WakeOther(other) => {
                    let other = other % self.models.len();
                    let known = other != number && self.all.borrow()[other].waker.borrow().is_some();
                    if known {
                        self.woken(other);
                    }
                    return;
                }
            };
            self.models[number].end = Some(end);
        }

        fn aborted(&mut self, number: usize) {
            let model = &mut self.models[number];
            if model.has_handle && model.end.is_none() {
                model.end = Some(End::Cancelled);
            }
        }

        fn check(&self, runtime: &Runtime) {
            let home = thread::current().id();
            let all = self.all.borrow();
            for (number, (outside, model)) in all.iter().zip(&self.models).enumerate() {
                assert_eq!(outside.drops.get(), u32::from(model.end.is_some()), "drops of task {number}");
                assert!(outside.dropped_on.get().is_none_or(|thread| thread == home));
            }
            let in_table = self.models.iter().filter(|model| model.end.is_none() || model.has_handle).count();
            assert_eq!(runtime.stats().tasks, in_table);
        }
    }

    /// Lets everything that is queued be visited.
    fn settle(runtime: &Runtime) {
        runtime
            .block_on(async {
                for _ in 0..6 {
                    task::yield_now().await;
                }
            })
            .unwrap();
    }

    fn elsewhere<T: Send>(run: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| scope.spawn(run).join().unwrap())
    }

    pub(super) fn live(steps: &[(Step, bool)]) {
        let runtime = Runtime::builder().polls_per_turn(1000).on_panic(|_| ()).build().unwrap();
        let bystander = Runtime::new().unwrap();
        let mut world = World { all: Rc::default(), models: Vec::new() };
        world.spawn(&runtime);
        settle(&runtime);
        for &(step, inside) in steps {
            act(&mut world, &runtime, step, inside);
            settle(&runtime);
            world.check(&runtime);
        }
        let all: Vec<Rc<Outside>> = world.all.borrow().iter().map(Rc::clone).collect();
        let handles: Vec<_> = all.iter().map(|outside| outside.handle.take()).collect();
        drop(runtime);
        for (number, outside) in all.iter().enumerate() {
            assert_eq!(outside.drops.get(), 1, "task {number} is dropped with its runtime, or was before");
            if let Some(waker) = outside.waker.take() {
                waker.wake();
            }
        }
        for handle in handles.into_iter().flatten() {
            assert!(bystander.block_on(handle).unwrap().unwrap_err().is_cancelled(), "its runtime is gone");
        }
        assert_eq!(bystander.stats().tasks, 0);
    }

    /// One step, on the loop or outside it, and the same in the model.
    fn act(world: &mut World, runtime: &Runtime, step: Step, inside: bool) {
        let on_loop = |run: &mut dyn FnMut()| if inside { runtime.block_on(async { run() }).unwrap() } else { run() };
        match step {
            Step::Spawn => world.spawn(runtime),
            Step::Plan(task, plan) => {
                let Some((number, outside)) = world.pick(task) else { return };
                outside.plan.set(plan);
                world.models[number].plan = plan;
            }
            Step::Wake(task) | Step::WakeElsewhere(task) | Step::CloneAndDropWakers(task) => {
                let Some((number, outside)) = world.pick(task) else { return };
                let waker = outside.waker.borrow().clone();
                let Some(waker) = waker else { return };
                match step {
                    Step::Wake(_) => on_loop(&mut || waker.wake_by_ref()),
                    Step::WakeElsewhere(_) => elsewhere(|| waker.wake()),
                    _ => return drop((waker.clone(), waker)),
                }
                world.woken(number);
            }
            Step::Abort(task) | Step::AbortElsewhere(task) => {
                let Some((number, outside)) = world.pick(task) else { return };
                if let Some(handle) = &*outside.handle.borrow() {
                    if matches!(step, Step::Abort(_)) {
                        on_loop(&mut || handle.abort());
                    } else {
                        elsewhere(|| handle.abort());
                    }
                }
                world.aborted(number);
            }
            Step::DropHandle(task) => {
                let Some((number, outside)) = world.pick(task) else { return };
                on_loop(&mut || drop(outside.handle.take()));
                world.models[number].has_handle = false;
            }
            Step::Join(task) => {
                let Some((number, outside)) = world.pick(task) else { return };
                join(world, runtime, number, &outside);
            }
        }
    }

    fn join(world: &mut World, runtime: &Runtime, number: usize, outside: &Outside) {
        let Some(mut handle) = outside.handle.take() else { return };
        let polled = runtime
            .block_on(poll_fn(|_| Poll::Ready(Pin::new(&mut handle).poll(&mut Context::from_waker(Waker::noop())))))
            .unwrap();
        let model = &mut world.models[number];
        match (polled, model.end) {
            (Poll::Pending, None) => return drop(outside.handle.replace(Some(handle))),
            (Poll::Ready(Ok(value)), Some(End::Value(expected))) => assert_eq!(value, expected),
            (Poll::Ready(Err(error)), Some(End::Panicked)) => assert!(error.is_panic()),
            (Poll::Ready(Err(error)), Some(End::Cancelled)) => assert!(error.is_cancelled()),
            (polled, end) => panic!("task {number} gave {polled:?} where the model says {end:?}"),
        }
        model.has_handle = false;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn tasks_end_as_a_counted_model_says(steps in fate::steps()) {
        fate::live(&steps);
    }
}
