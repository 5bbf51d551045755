  ;; Calls one gate with each line of a text as its arguments. Counts what was answered and not refused.
  (core module $caller'
    (import "libc" "memory" (memory 1))
    (import "gate" "call" (func $call (param i32 i32 i32 i32 i32)))
    (func (export "each") (param $name i32) (param $name-length i32) (param $at i32) (param $end i32) (result i32)
      (local $line i32) (local $answered i32)
      (local.set $line (local.get $at))
      (block $ended
        (loop $next
          (br_if $ended (i32.ge_u (local.get $at) (local.get $end)))
          (if (i32.eq (i32.load8_u (local.get $at)) (i32.const 10))
            (then
              (call $call (local.get $name) (local.get $name-length)
                (local.get $line) (i32.sub (local.get $at) (local.get $line)) (i32.const 512))
              (local.set $answered (i32.add (local.get $answered) (i32.eqz (i32.load8_u (i32.const 512)))))
              (local.set $line (i32.add (local.get $at) (i32.const 1)))))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (br $next)))
      (local.get $answered)))
  (core instance $caller (instantiate $caller' (with "libc" (instance $libc)) (with "gate" (instance $gate))))
