;; Reads the file that the intent names and returns what the gate returned: as text in JSON, or as the error that it was.
(component
  {{types}}
  {{read_file}}
  {{libc}}
  (core func $read (canon lower (func $read-file "read") (memory $memory) (realloc $realloc)))
  (core instance $gate (export "read" (func $read)))
  (core module $main'
    (import "libc" "memory" (memory 1))
    (import "gate" "read" (func $read (param i32 i32 i32 i64 i32 i64 i32)))
    (func (export "run") (param i32 i32) (result i32)
      (local $at i32) (local $length i32)
      (call $read (local.get 0) (local.get 1) (i32.const 0) (i64.const 0) (i32.const 0) (i64.const 0) (i32.const 1024))
      ;; A text is put between quotes, where it stands.
      (if (i32.eqz (i32.load8_u (i32.const 1024)))
        (then
          (local.set $at (i32.load (i32.const 1028)))
          (local.set $length (i32.load (i32.const 1032)))
          (i32.store8 (i32.sub (local.get $at) (i32.const 1)) (i32.const 34))
          (i32.store8 (i32.add (local.get $at) (local.get $length)) (i32.const 34))
          (i32.store (i32.const 1028) (i32.sub (local.get $at) (i32.const 1)))
          (i32.store (i32.const 1032) (i32.add (local.get $length) (i32.const 2)))))
      (i32.const 1024)))
  {{run}}
)
