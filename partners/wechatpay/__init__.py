"""WeChat Pay API v3 as a runnable sandbox: real signatures, certificates, sealed notices, misbehaviour on demand."""
