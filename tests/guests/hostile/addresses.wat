;; Asks for addresses of the machine itself, of its network and of the cloud around it.
(component
  {{types}}
  {{gates}}
  {{libc}}
  {{call}}
  (core instance $gate (export "call" (func $call)))
  {{call_each}}
  (core module $main'
    (import "libc" "memory" (memory 1))
    (import "caller" "each" (func $each (param i32 i32 i32 i32) (result i32)))
    ;; Returns how many of them were answered: one digit.
    (func (export "run") (param i32 i32) (result i32)
      (i32.store8 (i32.const 1536)
        (i32.add (i32.const 48) (call $each (i32.const 16) (i32.const 10) (i32.const 2048) (i32.const 2574))))
      (i32.store8 (i32.const 1024) (i32.const 0))
      (i32.store (i32.const 1028) (i32.const 1536))
      (i32.store (i32.const 1032) (i32.const 1))
      (i32.const 1024))
    (data (i32.const 16) "http_fetch")
    (data (i32.const 2048) "[\22http://127.0.0.1/\22]\0a[\22http://localhost/\22]\0a[\22http://[::1]/\22]\0a[\22http://0.0.0.0/\22]\0a[\22http://2130706433/\22]\0a[\22http://0x7f.1/\22]\0a[\22http://127.1/\22]\0a[\22http://[::ffff:127.0.0.1]/\22]\0a[\22http://169.254.169.254/latest/meta-data/\22]\0a[\22http://[fe80::1]/\22]\0a[\22http://10.0.0.1/\22]\0a[\22http://192.168.0.1/\22]\0a[\22http://172.16.0.1/\22]\0a[\22http://[fd00::1]/\22]\0a[\22http://metadata.google.internal/\22]\0a[\22http://example.com@127.0.0.1/\22]\0a[\22http://127.0.0.1:22/\22]\0a[\22file:///etc/passwd\22]\0a[\22gopher://127.0.0.1/\22]\0a[\22http://100.64.0.1/\22]\0a[\22http://[64:ff9b::7f00:1]/\22]\0a"))
  {{run_each}}
)
