//! Reads the pickles that PyTorch writes, and never executes anything.
//!
//! A pickle is a program for a stack machine that may call any Python function. This machine knows numbers, strings,
//! containers and the handful of functions that rebuild tensors; every other call gives an opaque value, so the
//! callbacks and configurations in a training checkpoint are carried along unread. Opcodes of protocols 0 to 5 as in
//! CPython's `pickletools`.
//!
//! Values lie in one list and refer to each other by position: shared and cyclic values cost nothing, nothing
//! recurses, and memory is at most proportional to the length of the pickle, with a limit on the number of values.

use std::collections::HashMap;

use safetensors::Dtype;

/// The most values (and stack entries) that a pickle may make; that of SD 1.5 makes forty thousand.
const MAX_VALUES: usize = 1 << 21;

/// Where a value lies.
pub(super) type Id = usize;

/// What a pickle describes.
#[derive(Clone, Debug)]
pub(super) enum Value<'a> {
    /// Anything that is not needed, the results of unknown calls among it.
    Opaque,
    Int(i64),
    Text(&'a str),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A function or class, by module and name.
    Global(&'a str, &'a str),
    Storage(Storage<'a>),
    /// A tensor by the arguments it is rebuilt from: see [`Pickle::tensor`].
    Tensor(Id),
}

/// A file of elements beside the pickle.
#[derive(Clone, Copy, Debug)]
pub(super) struct Storage<'a> {
    pub(super) dtype: Dtype,
    /// The name of the file.
    pub(super) key: &'a str,
    pub(super) numel: i64,
}

/// A view of a storage, unchecked.
#[derive(Clone, Debug)]
pub(super) struct StridedTensor<'a> {
    pub(super) storage: Storage<'a>,
    pub(super) offset: i64,
    pub(super) shape: Vec<i64>,
    pub(super) strides: Vec<i64>,
}

/// The values of a pickle.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    values: Vec<Value<'a>>,
    root: Id,
}

impl<'a> Pickle<'a> {
    /// Runs the machine over `bytes`.
    ///
    /// # Errors
    /// A description of what is damaged, unknown or too large.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, String> {
        let mut machine = Machine {
            bytes,
            position: 0,
            values: vec![Value::Opaque],
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        };
        let root = machine
            .run()
            .map_err(|problem| format!("the pickle, byte {}: {problem}", machine.position))?;
        Ok(Self { values: machine.values, root })
    }

    pub(super) const fn root(&self) -> Id {
        self.root
    }

    pub(super) fn get(&self, id: Id) -> &Value<'a> {
        &self.values[id]
    }

    /// The pairs of a dictionary whose keys are strings.
    pub(super) fn items(&self, id: Id) -> impl Iterator<Item = (&'a str, Id)> + '_ {
        let pairs: &[(Id, Id)] = match self.get(id) {
            Value::Dict(pairs) => pairs,
            _ => &[],
        };
        pairs.iter().filter_map(|&(key, value)| match self.get(key) {
            Value::Text(key) => Some((*key, value)),
            _ => None,
        })
    }
    /// The tensor that was rebuilt from `(storage, offset, size, stride, …)`; `None` if those are something else.
    pub(super) fn tensor(&self, arguments: Id) -> Option<StridedTensor<'a>> {
        let Value::Tuple(arguments) = self.get(arguments) else { return None };
        let [storage, offset, shape, strides, ..] = arguments[..] else { return None };
        let Value::Storage(storage) = self.values[storage] else { return None };
        let Value::Int(offset) = self.values[offset] else { return None };
        let (shape, strides) = (self.integers(shape)?, self.integers(strides)?);
        Some(StridedTensor { storage, offset, shape, strides })
    }

    /// A tuple of at most 16 integers.
    fn integers(&self, id: Id) -> Option<Vec<i64>> {
        let Value::Tuple(items) = self.get(id) else { return None };
        let integer = |&item: &Id| match self.values[item] {
            Value::Int(value) => Some(value),
            _ => None,
        };
        if items.len() > 16 { None } else { items.iter().map(integer).collect() }
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    position: usize,
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

/// The value that stands for everything that is not needed.
const OPAQUE: Id = 0;

type Step<T = ()> = Result<T, String>;

impl<'a> Machine<'a> {
    fn run(&mut self) -> Step<Id> {
        loop {
            let opcode = self.take(1)?[0];
            if opcode == b'.' {
                return self.pop();
            }
            self.step(opcode)?;
            if self.values.len() > MAX_VALUES || self.stack.len() > MAX_VALUES {
                return Err(format!("expected at most {MAX_VALUES} values, found more"));
            }
        }
    }

    fn step(&mut self, opcode: u8) -> Step {
        match opcode {
            // protocol, frame
            0x80 => self.skip(1),
            0x95 => self.skip(8),
            // None, booleans, numbers
            b'N' | 0x88 | 0x89 => self.opaque(),
            b'K' => self.integer(1),
            b'M' => self.integer(2),
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()))
            }
            b'I' | b'L' => self.decimal(),
            0x8a => {
                let length = self.length(1)?;
                self.long(length)
            }
            0x8b => {
                let length = self.length(4)?;
                self.long(length)
            }
            b'G' => {
                self.skip(8)?;
                self.opaque()
            }
            b'F' | b'S' => {
                self.line()?;
                self.opaque()
            }
            // strings
            b'X' => self.text(4),
            0x8c => self.text(1),
            0x8d => self.text(8),
            b'V' => {
                let line = self.line()?;
                self.push(Value::Text(line))
            }
            b'T' | b'B' => self.bytes(4),
            b'U' | b'C' => self.bytes(1),
            0x8e | 0x96 => self.bytes(8),
            // containers
            b'(' => {
                self.marks.push(self.stack.len());
                if self.marks.len() > MAX_VALUES { Err("too many marks".into()) } else { Ok(()) }
            }
            b')' => self.push(Value::Tuple(Vec::new())),
            0x85 => self.tuple(1),
            0x86 => self.tuple(2),
            0x87 => self.tuple(3),
            b't' => {
                let items = self.pop_mark()?;
                self.push(Value::Tuple(items))
            }
            b']' => self.push(Value::List(Vec::new())),
            b'l' => {
                let items = self.pop_mark()?;
                self.push(Value::List(items))
            }
            b'a' => {
                let item = self.pop()?;
                self.extend_list(vec![item])
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.extend_list(items)
            }
            b'}' => self.push(Value::Dict(Vec::new())),
            b'd' => {
                let items = self.pop_mark()?;
                self.push(Value::Dict(pairs(&items)))
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.extend_dict(&[key, value])
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.extend_dict(&items)
            }
            // sets
            0x8f => self.opaque(),
            0x90 => self.pop_mark().map(drop),
            0x91 => {
                self.pop_mark()?;
                self.opaque()
            }
            // the stack and the memo
            b'0' => self.drop_top(),
            b'1' => self.pop_mark().map(drop),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
                Ok(())
            }
            b'q' => self.memoize_at(1),
            b'r' => self.memoize_at(4),
            0x94 => self.memoize(self.memo.len() as u64),
            b'p' => {
                let index = self.line_number()?;
                self.memoize(index)
            }
            b'h' => self.recall_at(1),
            b'j' => self.recall_at(4),
            b'g' => {
                let index = self.line_number()?;
                self.recall(index)
            }
            // functions, classes and calls
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Value::Global(module, name))
            }
            0x93 => self.stack_global(),
            b'R' => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                self.call(function, arguments)
            }
            0x81 => {
                let (arguments, class) = (self.pop()?, self.pop()?);
                self.call(class, arguments)
            }
            0x92 => {
                self.pop()?;
                let (arguments, class) = (self.pop()?, self.pop()?);
                self.call(class, arguments)
            }
            b'o' => {
                self.pop_mark()?;
                self.opaque()
            }
            b'i' => {
                self.line()?;
                self.line()?;
                self.pop_mark()?;
                self.opaque()
            }
            // An object's state: nothing that makes a tensor has one that matters.
            b'b' => self.pop().map(drop),
            b'Q' => self.persistent(),
            other => Err(format!("opcode {other:#04x} is not known")),
        }
    }

    // The bytes.

    fn take(&mut self, count: usize) -> Step<&'a [u8]> {
        let rest = &self.bytes[self.position..];
        let taken = rest.get(..count).ok_or("it is cut short")?;
        self.position += count;
        Ok(taken)
    }

    fn skip(&mut self, count: usize) -> Step {
        self.take(count).map(drop)
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("take gives as many bytes as asked for"))
    }

    /// A little-endian number of 1 to 8 bytes.
    fn number(&mut self, width: usize) -> Step<u64> {
        let mut wide = [0; 8];
        wide[..width].copy_from_slice(self.take(width)?);
        Ok(u64::from_le_bytes(wide))
    }

    fn length(&mut self, width: usize) -> Step<usize> {
        usize::try_from(self.number(width)?).map_err(|_| "it is cut short".into())
    }

    fn line(&mut self) -> Step<&'a str> {
        let rest = &self.bytes[self.position..];
        let end = rest.iter().position(|&byte| byte == b'\n').ok_or("it is cut short")?;
        self.position += end + 1;
        let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
        std::str::from_utf8(line).map_err(|_| "a line is not UTF-8".into())
    }

    fn line_number(&mut self) -> Step<u64> {
        self.line()?.parse().map_err(|_| "expected a number".into())
    }

    // Values.

    fn push(&mut self, value: Value<'a>) -> Step {
        self.stack.push(self.values.len());
        self.values.push(value);
        Ok(())
    }

    fn opaque(&mut self) -> Step {
        self.stack.push(OPAQUE);
        Ok(())
    }

    fn integer(&mut self, width: usize) -> Step {
        let value = self.number(width)?;
        self.push(Value::Int(value as i64))
    }

    /// A little-endian two's complement number of any length.
    fn long(&mut self, length: usize) -> Step {
        let bytes = self.take(length)?;
        if length > 8 {
            return self.opaque();
        }
        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut wide = if negative { [0xff; 8] } else { [0; 8] };
        wide[..length].copy_from_slice(bytes);
        self.push(Value::Int(i64::from_le_bytes(wide)))
    }

    fn decimal(&mut self) -> Step {
        match self.line()?.trim_end_matches('L').parse() {
            Ok(value) => self.push(Value::Int(value)),
            Err(_) => self.opaque(),
        }
    }

    fn text(&mut self, width: usize) -> Step {
        let length = self.length(width)?;
        // Lone surrogates, which Python can pickle, are no UTF-8; such a string names no tensor.
        match std::str::from_utf8(self.take(length)?) {
            Ok(text) => self.push(Value::Text(text)),
            Err(_) => self.opaque(),
        }
    }

    fn bytes(&mut self, width: usize) -> Step {
        let length = self.length(width)?;
        self.skip(length)?;
        self.opaque()
    }

    fn tuple(&mut self, count: usize) -> Step {
        let start = self.stack.len().checked_sub(count).filter(|&start| start >= self.floor());
        let items = self.stack.split_off(start.ok_or("the stack is empty")?);
        self.push(Value::Tuple(items))
    }

    fn extend_list(&mut self, items: Vec<Id>) -> Step {
        let list = self.top()?;
        if let Value::List(list) = &mut self.values[list] {
            list.extend(items);
        }
        Ok(())
    }

    fn extend_dict(&mut self, items: &[Id]) -> Step {
        let dict = self.top()?;
        if let Value::Dict(dict) = &mut self.values[dict] {
            dict.extend(pairs(items));
        }
        Ok(())
    }

    // The stack and the memo.

    /// Entries below this belong to an open mark's outside.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Step<Id> {
        if self.stack.len() <= self.floor() {
            return Err("the stack is empty".into());
        }
        self.stack.pop().ok_or_else(|| "the stack is empty".into())
    }

    fn top(&self) -> Step<Id> {
        self.stack.last().copied().ok_or_else(|| "the stack is empty".into())
    }

    /// `POP` takes a mark if it is on top.
    fn drop_top(&mut self) -> Step {
        if self.marks.last() == Some(&self.stack.len()) {
            self.marks.pop();
            return Ok(());
        }
        self.pop().map(drop)
    }

    fn pop_mark(&mut self) -> Step<Vec<Id>> {
        let mark = self.marks.pop().ok_or("there is no mark")?;
        Ok(self.stack.split_off(mark))
    }

    fn memoize_at(&mut self, width: usize) -> Step {
        let index = self.number(width)?;
        self.memoize(index)
    }

    fn memoize(&mut self, index: u64) -> Step {
        let top = self.top()?;
        if self.memo.len() > MAX_VALUES {
            return Err(format!("expected at most {MAX_VALUES} memos, found more"));
        }
        self.memo.insert(index, top);
        Ok(())
    }

    fn recall_at(&mut self, width: usize) -> Step {
        let index = self.number(width)?;
        self.recall(index)
    }

    fn recall(&mut self, index: u64) -> Step {
        let id = *self.memo.get(&index).ok_or_else(|| format!("there is no memo {index}"))?;
        self.stack.push(id);
        Ok(())
    }

    // Calls.

    fn stack_global(&mut self) -> Step {
        let (name, module) = (self.pop()?, self.pop()?);
        match (&self.values[module], &self.values[name]) {
            (&Value::Text(module), &Value::Text(name)) => self.push(Value::Global(module, name)),
            _ => Err("expected the name of a class, found another value".into()),
        }
    }

    /// Rebuilds tensors and dictionaries; any other call gives an opaque value.
    fn call(&mut self, function: Id, arguments: Id) -> Step {
        let Value::Global(module, name) = self.values[function] else { return self.opaque() };
        match (module, name) {
            ("collections", "OrderedDict") => self.push(Value::Dict(Vec::new())),
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => {
                self.push(Value::Tensor(arguments))
            }
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
                let data = match &self.values[arguments] {
                    Value::Tuple(arguments) => arguments.first().copied(),
                    _ => None,
                };
                self.stack.push(data.unwrap_or(OPAQUE));
                Ok(())
            }
            _ => self.opaque(),
        }
    }

    /// A persistent id: `("storage", type, key, device, numel)`.
    fn persistent(&mut self) -> Step {
        let id = self.pop()?;
        let storage = self.storage(id);
        match storage {
            Some(storage) => self.push(Value::Storage(storage)),
            None => self.opaque(),
        }
    }

    fn storage(&self, id: Id) -> Option<Storage<'a>> {
        let Value::Tuple(items) = &self.values[id] else { return None };
        let [kind, class, key, _, numel, ..] = items[..] else { return None };
        let Value::Text("storage") = self.values[kind] else { return None };
        let Value::Global("torch", class) = self.values[class] else { return None };
        let &Value::Text(key) = &self.values[key] else { return None };
        let Value::Int(numel) = self.values[numel] else { return None };
        let dtype = match class {
            "FloatStorage" => Dtype::F32,
            "HalfStorage" => Dtype::F16,
            "BFloat16Storage" => Dtype::BF16,
            "DoubleStorage" => Dtype::F64,
            "LongStorage" => Dtype::I64,
            "IntStorage" => Dtype::I32,
            "ShortStorage" => Dtype::I16,
            "CharStorage" => Dtype::I8,
            "ByteStorage" => Dtype::U8,
            "BoolStorage" => Dtype::BOOL,
            _ => return None,
        };
        Some(Storage { dtype, key, numel })
    }
}

/// Keys and values in turn; an odd one at the end is left out.
fn pairs(items: &[Id]) -> Vec<(Id, Id)> {
    items.as_chunks().0.iter().map(|&[key, value]| (key, value)).collect()
}
